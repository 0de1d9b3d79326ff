"""One value per key.

What `set` is given counts as it is then, and `get` gives what a later call would read. Values of immutable types are checked
when they are set, decoded together when the first of them is asked for, and encoded together after the last record, so each key
costs one of each however many records it has. Values that can be changed in place are encoded and decoded each time instead.
"""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, TypeVar, overload

from .encoding import Encoding, Migration
from .error import Error, readable
from .packed import (
    PackedOptionalColumn,
    ValueWrites,
    Writes,
    has_gaps,
    length_of,
    packed,
    packed_optional_column_of,
    packed_optional_items_of,
    without_gaps,
)
from .state import State

T = TypeVar("T")
D = TypeVar("D")

#: What a cell holds where there is no value.
ABSENT: Any = type("Absent", (), {"__slots__": (), "__repr__": lambda _: "ABSENT"})()
#: What it holds where there is one, but only as bytes.
UNREAD: Any = type("Unread", (), {"__slots__": (), "__repr__": lambda _: "UNREAD"})()


class Presence:
    """Whether there is a value: true or false by itself, and also when it is called. A method alone would always be true in
    `if state.exists:`, and a property alone could not be called.
    """

    __slots__ = ("_is",)

    def __init__(self, is_there: bool) -> None:
        self._is = is_there

    def __bool__(self) -> bool:
        return self._is

    def __call__(self) -> bool:
        return self._is

    def __eq__(self, other: object) -> bool:
        return self._is == bool(other) if isinstance(other, bool | Presence) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._is)

    def __repr__(self) -> str:
        return repr(self._is)


_THERE = Presence(True)
_GONE = Presence(False)


class Value(State[T]):
    """Keeps one value for each key: `Value(int)`, `Value(str, ttl="1h")`, `Value(json)`.

    It keeps the value as it is when it is `set`. Each `get` returns a new value; a change in it has no effect until it is
    `set` again.
    """

    __slots__ = ("_cells", "_cleared", "_current", "_items", "_normal", "_plain_end", "_together", "_written")

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
        self._plain_end = self._encoding._plain_end
        self._load(PackedOptionalColumn(b"", b"", b""), 0)

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
        """Sets the value as it is now. An error if its type cannot express it."""
        slot = self._record._slot
        if type(value) is int and 0 <= value < self._plain_end:
            # Most numbers need no call.
            self._cells[slot] = value
        elif self._normal is None:
            data = self._encoded(value)
            # The cell first: it makes the items.
            self._cells[slot] = UNREAD
            self._items[slot] = data
        else:
            try:
                self._cells[slot] = self._normal(value)
            except MemoryError:
                raise
            except Exception as error:
                raise self._unencodable(error) from None
        self._written[slot] = True

    def clear(self) -> None:
        """Removes the value; the host forgets the key in this state."""
        slot = self._record._slot
        if self._cells[slot] is not ABSENT:
            self._cells[slot] = ABSENT
            self._written[slot] = True
            self._cleared = True

    @property
    def exists(self) -> Presence:
        """Whether there is a value; `exists()` says the same."""
        return _GONE if self._cells[self._record._slot] is ABSENT else _THERE

    def _load(self, current: PackedOptionalColumn, keys: int) -> None:
        # For each key of the call what is known, its bytes, and whether it is new. What is `UNREAD` has bytes.
        self._cells: Any
        self._items: list[bytes | None]
        self._written = [False] * keys
        self._cleared = False
        # Whether decoding all at once is still to be tried.
        self._together = self._normal is not None
        if any(current.present):
            self._current, self._cells, self._items = current, _Untouched(self), []
        else:
            self._current, self._cells, self._items = current, [ABSENT] * keys, [None] * keys

    def _read(self, slot: int) -> Any:
        """The value of a cell that is unread."""
        if self._together:
            self._together = False
            try:
                return self._read_all()[slot]
            except MemoryError:
                raise
            except Exception:
                # The value that is to blame raises the error when it is read itself.
                pass
        if not self._items:
            self._items = packed_optional_items_of(self._current)
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

    def _read_all(self) -> list[Any]:
        """Decodes all cells that are unread."""
        cells = self._cells
        if cells.count(UNREAD) == len(cells):
            cells = self._cells = self._encoding._values_of(self._current)
            return cells
        items = self._items or packed_optional_items_of(self._current)
        unread = [slot for slot, cell in enumerate(cells) if cell is UNREAD]
        values = self._encoding.decode_all([items[slot] for slot in unread])  # type: ignore[misc]
        for slot, value in zip(unread, values, strict=True):
            cells[slot] = value
        return cells

    def _undecodable(self, error: Exception) -> Error:
        return Error(
            f"state `{self.name}` of key `{readable(self._record.key)}` does not decode as version {self.version} of its type: "
            f"{error}; run the plugin that wrote it, raise `version` and say how to `migrate`, or keep this state as it was "
            "and add another one for the new type"
        )

    def _store(self, writes: Writes) -> None:
        written, cells = self._written, self._cells
        if True not in written:
            return
        if False not in written:
            slots: Any = range(len(written))
            selection = writes.cases.Selection_All()
        else:
            slots = [*compress(range(len(written)), written)]
            selection = writes.cases.Selection_Listed(packed(slots))
            cells = [cells[slot] for slot in slots]
        writes.values.append(ValueWrites(self._index, selection, self._new_values(cells, slots)))

    def _new_values(self, cells: list[Any], slots: Sequence[int]) -> PackedOptionalColumn:
        """The bytes of these cells, which are at these slots."""
        if self._normal is not None and not self._cleared:
            return without_gaps(self._encoding._column_of(cells))
        if self._normal is None:
            items = [None if cell is ABSENT else self._items[slot] for cell, slot in zip(cells, slots, strict=True)]
        else:
            encoded = iter(self._encoding.encode_all([cell for cell in cells if cell is not ABSENT]))
            items = [None if cell is ABSENT else next(encoded) for cell in cells]
        return packed_optional_column_of(items)


class _Untouched:
    """Cells that were not touched yet. The first touch makes them, but decodes none."""

    __slots__ = ("_value",)

    def __init__(self, value: Value[Any]) -> None:
        self._value = value

    def _touch(self) -> list[Any]:
        value, current = self._value, self._value._current
        if value._normal is not None and not has_gaps(current):
            # Items are taken apart only if one of them is asked for alone.
            cells = [UNREAD] * length_of(current)
        else:
            value._items = packed_optional_items_of(current)
            cells = [ABSENT if item is None else UNREAD for item in value._items]
        value._cells = cells
        return cells

    def __getitem__(self, slot: int) -> Any:
        return self._touch()[slot]

    def __setitem__(self, slot: int, value: Any) -> None:
        self._touch()[slot] = value
