"""One value a key.

The values of a call are decoded together when the first of them is asked for, and the changed ones are encoded together
after the last record. So each key costs one of each however many records it has.
"""

from collections.abc import Mapping
from typing import Any, TypeVar, overload

from .columns import OptionalColumn, ValueWrites, Writes, items_of, optional_column_of, optional_items_of
from .encoding import Encoding, Migration
from .error import Error, readable
from .state import State

T = TypeVar("T")
D = TypeVar("D")

ABSENT: Any = type("Absent", (), {"__slots__": (), "__repr__": lambda _: "ABSENT"})()


class Value(State[T]):
    """Keeps one value for each key: `Value(int)`, `Value(str, ttl="1h")`, `Value(json)`.

    What `get` gave and was then changed in place is kept only if it is `set` again.
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
        # One cell for each key of the call, and which of them were written.
        self._cells: Any = []
        self._written: dict[int, None] = {}

    @overload
    def get(self) -> T | None: ...
    @overload
    def get(self, default: D) -> T | D: ...
    def get(self, default: Any = None) -> Any:
        """The value, or `default` if there is none."""
        value = self._cells[self._record._slot]
        return default if value is ABSENT else value

    def set(self, value: T) -> None:
        """Sets the value."""
        slot = self._record._slot
        self._cells[slot] = value
        self._written[slot] = None

    def clear(self) -> None:
        """Removes the value; the host forgets the key in this state."""
        slot = self._record._slot
        if self._cells[slot] is not ABSENT:
            self._cells[slot] = ABSENT
            self._written[slot] = None

    def exists(self) -> bool:
        """Whether there is a value."""
        return self._cells[self._record._slot] is not ABSENT

    def _load(self, current: OptionalColumn, keys: int) -> None:
        self._written = {}
        self._cells = _Unread(self, current) if any(current.present) else [ABSENT] * keys

    def _decoded(self, current: OptionalColumn) -> list[Any]:
        encoding, length = self._encoding, len(current.ends)
        present = int.from_bytes(current.present, "little").bit_count()
        try:
            if present == length:
                return [*encoding.decode_all(items_of(current))]  # type: ignore[arg-type]
            items = optional_items_of(current)
            decoded = iter(encoding.decode_all([item for item in items if item is not None]))
            return [ABSENT if item is None else next(decoded) for item in items]
        except Exception:
            raise self._undecodable(current) from None

    def _undecodable(self, current: OptionalColumn) -> Error:
        """Finds the value that is to blame."""
        for slot, item in enumerate(optional_items_of(current)):
            if item is None:
                continue
            try:
                self._encoding.decode(item)
            except Exception as error:
                key = readable(items_of(self._record._batch.keys)[slot])
                return Error(
                    f"state `{self.name}` of key `{key}` does not decode as version {self.version} of its type: {error}; "
                    "run the plugin that wrote it, raise `version` and say how to `migrate`, or keep this state as it was "
                    "and add another one for the new type"
                )
        return Error(f"state `{self.name}` does not decode")

    def _store(self, writes: Writes) -> None:
        if not self._written:
            return
        slots = list(self._written)
        cells = self._cells
        values = [cells[slot] for slot in slots]
        try:
            if ABSENT in values:
                items = [None if value is ABSENT else self._encoding.encode(value) for value in values]
            else:
                items = [*self._encoding.encode_all(values)]
        except (Error, TypeError, ValueError, OverflowError) as error:
            raise Error(f"cannot encode state `{self.name}`: {error}") from None
        writes.values.append(ValueWrites(self._index, slots, optional_column_of(items)))


class _Unread:
    """Cells that nobody has looked at: the first look decodes all of them."""

    __slots__ = ("_current", "_value")

    def __init__(self, value: Value[Any], current: OptionalColumn) -> None:
        self._value = value
        self._current = current

    def _read(self) -> list[Any]:
        cells = self._value._cells = self._value._decoded(self._current)
        return cells

    def __getitem__(self, slot: int) -> Any:
        return self._read()[slot]

    def __setitem__(self, slot: int, value: Any) -> None:
        self._read()[slot] = value
