"""Many values per key, in the order in which they were appended.

What a call appends is encoded at once and leaves with the call. What earlier calls appended stays with the host until
the operator iterates, and then comes in pages. So appending costs the same however long a list is.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from . import host
from .columns import items_of
from .encoding import Encoding, Migration
from .error import Error
from .packed import ListWrites, PackedOptionalColumn, Writes, packed, packed_column_of
from .state import State

T = TypeVar("T")

#: Lists whose lengths are asked for at once.
LENGTHS = 64
FIRST_PAGE = 64
PAGE = 4096


class List(State[T]):
    """Keeps a list for each key: `List(str)`, `List(json, ttl="1h")`. `len` and `bool` each cost a call of the host."""

    __slots__ = ("_appended", "_cleared", "_keys", "_lengths")

    kind = 1

    @overload
    def __init__(
        self: "List[None]",
        of: None,
        *,
        name: str | None = None,
        ttl: str | None = None,
        version: int = 1,
        migrate: Mapping[int, Migration] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        of: type[T] | Encoding[T],
        *,
        name: str | None = None,
        ttl: str | None = None,
        version: int = 1,
        migrate: Mapping[int, Migration] | None = None,
    ) -> None: ...
    def __init__(
        self,
        of: Any,
        *,
        name: str | None = None,
        ttl: str | None = None,
        version: int = 1,
        migrate: Mapping[int, Migration] | None = None,
    ) -> None:
        super().__init__(of, name=name, ttl=ttl, version=version, migrate=migrate)
        self._load(PackedOptionalColumn(b"", b"", b""), 0)

    def append(self, item: T) -> None:
        """Appends an item as it is now."""
        data = self._encoded(item)
        self._appended.setdefault(self._record._slot, []).append(data)

    def extend(self, items: Iterable[T]) -> None:
        """Appends several items, all of them or, if one cannot be encoded, none."""
        data = [self._encoded(item) for item in items]
        if data:
            self._appended.setdefault(self._record._slot, []).extend(data)

    def clear(self) -> None:
        """Removes all items."""
        self._cleared[self._record._slot] = None
        self._appended.pop(self._record._slot, None)

    def replace(self, items: Iterable[T]) -> None:
        """Replaces all items with these."""
        data = [self._encoded(item) for item in items]
        self.clear()
        if data:
            self._appended[self._record._slot] = data

    def __iter__(self) -> Iterator[T]:
        slot = self._record._slot
        if slot not in self._cleared:
            position: int | None = 0
            page = FIRST_PAGE
            while position is not None:
                items = host.current.list_read(self._index, slot, position, page)
                position, page = items.next, PAGE
                yield from self._decoded(items_of(items.values))
        yield from self._decoded(self._appended.get(slot, []))

    def __len__(self) -> int:
        slot = self._record._slot
        own = len(self._appended.get(slot, ()))
        if slot in self._cleared:
            return own
        if slot not in self._lengths:
            # The keys whose records come next are asked for at the same time.
            asked = [other for other in range(slot, self._keys) if other not in self._lengths][:LENGTHS]
            self._lengths.update(zip(asked, host.current.list_len(self._index, asked), strict=True))
        return self._lengths[slot] + own

    def __bool__(self) -> bool:
        slot = self._record._slot
        if slot in self._appended or slot in self._cleared:
            return bool(self._appended.get(slot))
        return bool(host.current.list_read(self._index, slot, 0, 1).values.ends)

    def _decoded(self, items: list[bytes]) -> list[T]:
        try:
            return self._encoding.decode_all(items)
        except MemoryError:
            raise
        except Exception as error:
            raise Error(f"an item of the list `{self.name}` does not decode: {error}") from None

    def _load(self, current: PackedOptionalColumn, keys: int) -> None:
        self._keys = keys
        self._appended: dict[int, list[bytes]] = {}
        self._cleared: dict[int, None] = {}
        self._lengths: dict[int, int] = {}

    def _store(self, writes: Writes) -> None:
        if not self._appended and not self._cleared:
            return
        slots: list[int] = []
        items: list[bytes] = []
        for slot, appended in self._appended.items():
            slots += [slot] * len(appended)
            items += appended
        writes.lists.append(ListWrites(self._index, packed(self._cleared), packed(slots), packed_column_of(items)))
