"""A record that is being processed.

There is one for all records of an operator: it is a place in the batch that moves along, and what arrives as bytes becomes
numbers when the first record is looked at, so columns that are never read cost nothing. An operator that wants to keep
something of a record keeps that, not the record.
"""

from .columns import NO_TIMESTAMP
from .error import Error, readable
from .packed import PackedBatch, PackedColumn, unpacked, unpacked_times

_NOTHING = PackedBatch(PackedColumn(b"", b""), b"", PackedColumn(b"", b""), b"")


class Record:
    """The record that is being processed. It is valid until `process` returns."""

    __slots__ = ("_batch", "_index", "_key_ends", "_keys", "_slot", "_times", "_unread", "_value_ends", "_values", "input")

    #: The name of its input port.
    input: str

    def __init__(self) -> None:
        self._turn_to(_NOTHING, "", frozenset())

    def _turn_to(self, batch: PackedBatch, name: str, unread: frozenset[str]) -> None:
        """Stands for the records of a batch from here on, whose columns `unread` did not come."""
        self._batch = batch
        self._unread = unread
        self.input = name
        self._index = 0
        self._slot = -1
        self._keys = batch.keys.bytes
        self._values = batch.values.bytes
        # Made at the first look. Item `i` starts where item `i - 1` ends, the first one at 0.
        self._key_ends: list[int] | None = None
        self._value_ends: list[int] | None = None
        self._times: list[int] | None = None

    def _look_at_keys(self) -> list[int]:
        ends = self._key_ends = [0, *unpacked(self._batch.keys.ends)]
        return ends

    def _look_at_values(self) -> list[int]:
        self._refuse_unread("value")
        ends = self._value_ends = [0, *unpacked(self._batch.values.ends)]
        return ends

    def _look_at_times(self) -> list[int]:
        self._refuse_unread("timestamp")
        times = self._times = unpacked_times(self._batch.timestamps)
        return times

    def _refuse_unread(self, column: str) -> None:
        if column in self._unread:
            raise Error(
                f"the {column} of a record is read, and the host was told that it is not; set `unread_columns` in the class of "
                f'the operator, without "{column}", such as `unread_columns = ()`'
            )

    @property
    def key(self) -> bytes:
        """Its key."""
        slot, ends = self._slot, self._key_ends
        if ends is None:
            ends = self._look_at_keys()
        return self._keys[ends[slot] : ends[slot + 1]]

    @property
    def value(self) -> bytes:
        """Its value."""
        index, ends = self._index, self._value_ends
        if ends is None:
            ends = self._look_at_values()
        return self._values[ends[index] : ends[index + 1]]

    @property
    def text(self) -> str:
        """Its value as text. An error if it is not UTF-8."""
        index, ends = self._index, self._value_ends
        if ends is None:
            ends = self._look_at_values()
        value = self._values[ends[index] : ends[index + 1]]
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise Error(f"the value `{readable(value)}` is not UTF-8: {error.reason}") from None

    @property
    def timestamp(self) -> int | None:
        """Its event time in milliseconds since 1970-01-01T00:00:00Z, if it has one."""
        times = self._times
        timestamp = (self._look_at_times() if times is None else times)[self._index]
        return None if timestamp == NO_TIMESTAMP else timestamp

    def __repr__(self) -> str:
        if self._slot < 0:
            return "Record()"
        value = "unread" if "value" in self._unread else repr(self.value)
        timestamp = "unread" if "timestamp" in self._unread else repr(self.timestamp)
        return f"Record(key={self.key!r}, value={value}, timestamp={timestamp}, input={self.input!r})"
