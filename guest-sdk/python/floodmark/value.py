"""One value a key.

What `set` is given counts as it is then, and `get` gives what a later call would read. Values of immutable types are checked
when they are set, decoded together when the first of them is asked for, and encoded together after the last record, so each key
costs one of each however many records it has. Values that can be changed in place are encoded and decoded each time instead.
"""

from collections.abc import Mapping
from typing import Any, TypeVar, overload

from .columns import OptionalColumn, ValueWrites, Writes, items_of, optional_column_of, optional_items_of
from .encoding import Encoding, Migration
from .error import Error, readable
from .state import State

T = TypeVar("T")
D = TypeVar("D")

#: What a cell holds where there is no value.
ABSENT: Any = type("Absent", (), {"__slots__": (), "__repr__": lambda _: "ABSENT"})()
#: What it holds where there is one, but only as bytes.
UNREAD: Any = type("Unread", (), {"__slots__": (), "__repr__": lambda _: "UNREAD"})()


class Value(State[T]):
    """Keeps one value for each key: `Value(int)`, `Value(str, ttl="1h")`, `Value(json)`.

    It keeps what a value is when it is `set`. Each `get` gives a value of its own, and what is changed in it counts only if it
    is `set` again.
    """

    kind = 0

    @overload
    def __init__(
        self: "Value[None]",
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
        # Checks what is set, for types whose values can be kept in cells.
        self._normal = self._encoding._normal if self._encoding._immutable else None
        self._load(OptionalColumn(b"", [], b""), 0)

    @overload
    def get(self) -> T | None: ...
    @overload
    def get(self, default: D) -> T | D: ...
    def get(self, default: Any = None) -> Any:
        """The value, or `default` if there is none."""
        value = self._cells[self._record._slot]
        if value is ABSENT:
            return default
        return self._read(self._record._slot) if value is UNREAD else value

    def set(self, value: T) -> None:
        """Sets the value as it is now. An error if its type cannot say it."""
        slot, normal = self._record._slot, self._normal
        if normal is None:
            data = self._encoded(value)
            # The cell first: it makes the items.
            self._cells[slot] = UNREAD
            self._items[slot] = data
        else:
            try:
                self._cells[slot] = normal(value)
            except MemoryError:
                raise
            except Exception as error:
                raise self._unencodable(error) from None
        self._written[slot] = None

    def clear(self) -> None:
        """Removes the value; the host forgets the key in this state."""
        slot = self._record._slot
        if self._cells[slot] is not ABSENT:
            self._cells[slot] = ABSENT
            self._written[slot] = None
            self._cleared = True

    def exists(self) -> bool:
        """Whether there is a value."""
        return self._cells[self._record._slot] is not ABSENT

    def _load(self, current: OptionalColumn, keys: int) -> None:
        # For each key of the call what is known, and its bytes. What is `UNREAD` has bytes.
        self._cells: Any
        self._items: list[bytes | None]
        self._written: dict[int, None] = {}
        self._cleared = False
        # Whether decoding all at once is still to be tried.
        self._together = self._normal is not None
        if any(current.present):
            self._cells, self._items = _Untouched(self, current), []
        else:
            self._cells, self._items = [ABSENT] * keys, [None] * keys

    def _read(self, slot: int) -> Any:
        """The value of a cell that is unread."""
        if self._together:
            self._together = False
            cells, items = self._cells, self._items
            unread: Any = range(len(cells))
            if cells.count(UNREAD) < len(cells):
                unread = [other for other in unread if cells[other] is UNREAD]
                items = [items[other] for other in unread]
            try:
                values = self._encoding.decode_all(items)  # type: ignore[arg-type]
            except MemoryError:
                raise
            except Exception:
                # It is told when somebody asks for the one that is to blame.
                pass
            else:
                if len(values) == len(cells):
                    self._cells = values
                else:
                    for other, value in zip(unread, values, strict=True):
                        cells[other] = value
                return self._cells[slot]
        item = self._items[slot]
        assert item is not None
        try:
            value = self._encoding.decode(item)
        except MemoryError:
            raise
        except Exception as error:
            raise self._undecodable(error) from None
        if self._normal is not None:
            self._cells[slot] = value
        return value

    def _undecodable(self, error: Exception) -> Error:
        return Error(
            f"state `{self.name}` of key `{readable(self._record.key)}` does not decode as version {self.version} of its type: "
            f"{error}; run the plugin that wrote it, raise `version` and say how to `migrate`, or keep this state as it was "
            "and add another one for the new type"
        )

    def _store(self, writes: Writes) -> None:
        if not self._written:
            return
        slots = list(self._written)
        cells = self._cells
        items: list[bytes | None]
        if self._normal is None:
            items = [None if cells[slot] is ABSENT else self._items[slot] for slot in slots]
        else:
            values = [cells[slot] for slot in slots]
            if self._cleared:
                encoded = iter(self._encoding.encode_all([value for value in values if value is not ABSENT]))
                items = [None if value is ABSENT else next(encoded) for value in values]
            else:
                items = self._encoding.encode_all(values)  # type: ignore[assignment]
        writes.values.append(ValueWrites(self._index, slots, optional_column_of(items)))


class _Untouched:
    """Cells that nobody has looked at: the first touch takes the bytes apart, but decodes none."""

    __slots__ = ("_current", "_value")

    def __init__(self, value: Value[Any], current: OptionalColumn) -> None:
        self._value = value
        self._current = current

    def _touch(self) -> list[Any]:
        value, current = self._value, self._current
        if int.from_bytes(current.present, "little").bit_count() == len(current.ends):
            value._items, cells = [*items_of(current)], [UNREAD] * len(current.ends)  # type: ignore[arg-type]
        else:
            value._items = optional_items_of(current)
            cells = [ABSENT if item is None else UNREAD for item in value._items]
        value._cells = cells
        return cells

    def __getitem__(self, slot: int) -> Any:
        return self._touch()[slot]

    def __setitem__(self, slot: int, value: Any) -> None:
        self._touch()[slot] = value
