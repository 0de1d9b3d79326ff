"""Many values per key, each under a sub-key, in the order of the sub-keys.

Entries come from the host one by one when they are asked for, or in pages during iteration. What a call has read or
written is kept until its end, and laid over what the host has. It is kept as bytes, and each look decodes them again: so a
change in place has no effect, and a value that does not decode fails only when it is read.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, overload

from . import host
from .columns import Column, column_of, items_of, optional_items_of
from .encoding import Encoding, Migration
from .error import Error
from .packed import MapWrites, PackedOptionalColumn, Writes, packed, packed_column_of, packed_optional_column_of
from .state import State
from .sub_key import SubKey, sub_key_of

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

FIRST_PAGE = 32
PAGE = 4096


class Map(State[V], Generic[K, V]):
    """Keeps a map for each key: `Map(str, int)`, `Map((u32, str), json)`. It is in the order of its sub-keys.

    It keeps a value as it is when it is set. Each read returns a new value; a change in it has no effect until it is set
    again.
    """

    __slots__ = ("_by", "_cleared", "_known", "_written")

    kind = 2

    def __init__(
        self,
        by: type[K] | SubKey[K] | Encoding[K] | tuple[object, ...],
        of: type[V] | Encoding[V] | None,
        *,
        name: str | None = None,
        ttl: str | None = None,
        version: int = 1,
        migrate: Mapping[int, Migration] | None = None,
    ) -> None:
        super().__init__(of, name=name, ttl=ttl, version=version, migrate=migrate)
        self._by: SubKey[K] = sub_key_of(by)
        self._load(PackedOptionalColumn(b"", b"", b""), 0)

    @overload
    def get(self, sub_key: K) -> V | None: ...
    @overload
    def get(self, sub_key: K, default: D) -> V | D: ...
    def get(self, sub_key: K, default: Any = None) -> Any:
        """The value of a sub-key, or `default` if there is none."""
        item = self._find(self._sub_key(sub_key))
        return default if item is None else self._decoded(item)

    def __getitem__(self, sub_key: K) -> V:
        item = self._find(self._sub_key(sub_key))
        if item is None:
            raise KeyError(sub_key)
        return self._decoded(item)

    def __contains__(self, sub_key: K) -> bool:
        return self._find(self._sub_key(sub_key)) is not None

    def __setitem__(self, sub_key: K, value: V) -> None:
        data, item, slot = self._sub_key(sub_key), self._encoded(value), self._record._slot
        self._known.setdefault(slot, {})[data] = item
        self._written.setdefault(slot, {})[data] = None

    def __delitem__(self, sub_key: K) -> None:
        if sub_key not in self:
            raise KeyError(sub_key)
        self.remove(sub_key)

    def remove(self, sub_key: K) -> None:
        """Removes a value, if there is one. The previous value is not read."""
        data, slot = self._sub_key(sub_key), self._record._slot
        known = self._known.setdefault(slot, {})
        if data not in known or known[data] is not None:
            known[data] = None
            self._written.setdefault(slot, {})[data] = None

    def clear(self) -> None:
        """Removes all entries."""
        slot = self._record._slot
        self._cleared[slot] = None
        self._known[slot] = {}
        self._written[slot] = {}

    def prefetch(self, sub_keys: Iterable[K]) -> None:
        """Gets several values from the host at once, so that `get` and similar functions find them here."""
        slot = self._record._slot
        if slot in self._cleared:
            return
        known = self._known.setdefault(slot, {})
        asked = [data for data in dict.fromkeys(map(self._sub_key, sub_keys)) if data not in known]
        while asked:
            found = host.current.map_get(self._index, [slot] * len(asked), column_of(asked))
            items = optional_items_of(found)
            known.update(zip(asked, items, strict=False))
            asked = asked[len(items) :]

    def items(self, start: K | None = None, end: K | None = None, *, reverse: bool = False) -> Iterator[tuple[K, V]]:
        """The entries whose sub-keys are not below `start` and below `end`, in order or the other way round."""
        return self._decoded_entries(start, end, reverse, FIRST_PAGE)

    def keys(self, start: K | None = None, end: K | None = None, *, reverse: bool = False) -> Iterator[K]:
        """The sub-keys of `items`."""
        return (self._by.decode(data) for data, _ in self._entries(start, end, reverse, FIRST_PAGE))

    def values(self, start: K | None = None, end: K | None = None, *, reverse: bool = False) -> Iterator[V]:
        """The values of `items`."""
        return (self._decoded(item) for _, item in self._entries(start, end, reverse, FIRST_PAGE))

    def __iter__(self) -> Iterator[K]:
        return self.keys()

    def first(self) -> tuple[K, V] | None:
        """The entry with the lowest sub-key."""
        return next(self._decoded_entries(None, None, False, 1), None)

    def last(self) -> tuple[K, V] | None:
        """The entry with the highest sub-key."""
        return next(self._decoded_entries(None, None, True, 1), None)

    def __bool__(self) -> bool:
        return next(self._entries(None, None, False, 1), None) is not None

    def _sub_key(self, sub_key: K) -> bytes:
        try:
            return self._by.encode(sub_key)
        except MemoryError:
            raise
        except Exception as error:
            raise Error(f"cannot encode a sub-key of state `{self.name}` as {self._by.name}: {error}") from None

    def _find(self, data: bytes) -> bytes | None:
        """The bytes under a sub-key. Asks the host if this call does not know them yet."""
        slot = self._record._slot
        known = self._known.get(slot)
        if known is None:
            known = self._known[slot] = {}
        if data in known:
            return known[data]
        if slot in self._cleared:
            return None
        found = host.current.map_get(self._index, [slot], Column([len(data)], data))
        item = known[data] = found.bytes if found.present[0] & 1 else None
        return item

    def _decoded(self, item: bytes) -> V:
        try:
            return self._encoding.decode(item)
        except MemoryError:
            raise
        except Exception as error:
            raise Error(f"a value of the map `{self.name}` does not decode: {error}") from None

    def _decoded_entries(self, start: K | None, end: K | None, reverse: bool, page: int) -> Iterator[tuple[K, V]]:
        by = self._by
        for data, item in self._entries(start, end, reverse, page):
            yield by.decode(data), self._decoded(item)

    def _entries(self, start: K | None, end: K | None, reverse: bool, page: int) -> Iterator[tuple[bytes, bytes]]:
        low = b"" if start is None else self._sub_key(start)
        high = None if end is None else self._sub_key(end)
        slot = self._record._slot
        # As it is now: what is written from here on does not show.
        own = sorted(
            (
                (data, self._known[slot][data])
                for data in self._written.get(slot, ())
                if data >= low and (high is None or data < high)
            ),
            key=lambda entry: entry[0],
            reverse=reverse,
        )
        at = 0
        for data, item in self._of_host(slot, low, high, reverse, page):
            while at < len(own) and (own[at][0] > data if reverse else own[at][0] < data):
                own_data, own_item = own[at]
                if own_item is not None:
                    yield own_data, own_item
                at += 1
            if at < len(own) and own[at][0] == data:
                # What this call knows is newer than what the host has.
                continue
            yield data, item
        for data, own_item in own[at:]:
            if own_item is not None:
                yield data, own_item

    def _of_host(
        self, slot: int, low: bytes, high: bytes | None, reverse: bool, page: int
    ) -> Iterator[tuple[bytes, bytes]]:
        more = slot not in self._cleared and (high is None or low < high)
        while more:
            entries = host.current.map_scan(self._index, slot, low, high, reverse, page)
            sub_keys = items_of(entries.sub_keys)
            yield from zip(sub_keys, items_of(entries.values), strict=True)
            page, more = PAGE, entries.more and bool(sub_keys)
            if more and reverse:
                high = sub_keys[-1]
            elif more:
                low = sub_keys[-1] + b"\0"

    def _load(self, current: PackedOptionalColumn, keys: int) -> None:
        # For each slot: what is known by sub-key, `None` where there is nothing, and which of it was written.
        self._known: dict[int, dict[bytes, bytes | None]] = {}
        self._written: dict[int, dict[bytes, None]] = {}
        self._cleared: dict[int, None] = {}

    def _store(self, writes: Writes) -> None:
        slots: list[int] = []
        sub_keys: list[bytes] = []
        items: list[bytes | None] = []
        for slot, written in self._written.items():
            known = self._known[slot]
            slots += [slot] * len(written)
            sub_keys += written
            items += [known[data] for data in written]
        if slots or self._cleared:
            columns = packed_column_of(sub_keys), packed_optional_column_of(items)
            writes.maps.append(MapWrites(self._index, packed(self._cleared), packed(slots), *columns))

    def sub_key(self) -> SubKey[K]:
        return self._by
