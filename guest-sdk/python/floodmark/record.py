"""A record that is being processed.

There is one for all records of an operator: it is a place in the batch that moves along, so what nobody looks at costs
nothing. Who wants to keep something of it keeps that, not the record.
"""

from .columns import NO_TIMESTAMP, Batch, Column
from .error import Error, readable

_NOTHING = Batch(Column([], b""), [], Column([], b""), [])


class Record:
    """The record that is being processed. It is valid until `process` returns."""

    __slots__ = ("_batch", "_index", "_key_ends", "_keys", "_slot", "_value_ends", "_values", "input")

    #: The name of the input port by which it came.
    input: str

    def __init__(self) -> None:
        self._turn_to(_NOTHING, "")

    def _turn_to(self, batch: Batch, name: str) -> None:
        self._batch = batch
        self.input = name
        self._index = 0
        self._slot = -1
        self._keys = batch.keys.bytes
        self._values = batch.values.bytes
        # Item `i` starts where item `i - 1` ends, the first one at 0.
        self._key_ends = [0, *batch.keys.ends]
        self._value_ends = [0, *batch.values.ends]

    @property
    def key(self) -> bytes:
        """Its key."""
        slot, ends = self._slot, self._key_ends
        return self._keys[ends[slot] : ends[slot + 1]]

    @property
    def value(self) -> bytes:
        """Its value."""
        index, ends = self._index, self._value_ends
        return self._values[ends[index] : ends[index + 1]]

    @property
    def text(self) -> str:
        """Its value as text. An error if it is not UTF-8."""
        index, ends = self._index, self._value_ends
        value = self._values[ends[index] : ends[index + 1]]
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise Error(f"the value `{readable(value)}` is not UTF-8: {error.reason}") from None

    @property
    def timestamp(self) -> int | None:
        """Its event time in milliseconds since 1970-01-01T00:00:00Z, if it has one."""
        timestamp = self._batch.timestamps[self._index]
        return None if timestamp == NO_TIMESTAMP else timestamp

    def __repr__(self) -> str:
        if self._slot < 0:
            return "Record()"
        return f"Record(key={self.key!r}, value={self.value!r}, timestamp={self.timestamp!r}, input={self.input!r})"
