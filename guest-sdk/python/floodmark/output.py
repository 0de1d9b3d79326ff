"""What an operator emits, collected until the batch is done.

An emission notes the place of its record in the batch, and the host knows the key and the time of that one. Only what is said
otherwise is kept beside it. As long as the first records emit one each by the first port, even the places are clear and are
not noted. ASCII becomes bytes at the end, for all of a port at once. Other text becomes bytes when it is emitted, so what has
none fails where it is emitted.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from .columns import Rejection
from .error import Error
from .packed import (
    Emission,
    PackedColumn,
    ends_of,
    packed,
    packed_column_of,
    packed_items_of,
    packed_times,
    unpacked,
    unpacked_times,
)
from .record import Record

I64_MIN, I64_END = -(1 << 63), 1 << 63


class _Port:
    """What leaves by one port: of the `i`-th emission `values[i]`, by the record `records[i]`."""

    __slots__ = ("keys", "records", "times", "values")

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.records: Sequence[int] = []
        # By the place of the emission, where it is not that of the record.
        self.keys: dict[int, bytes] = {}
        self.times: dict[int, int] = {}

    def runs(self, is_cut: bool) -> list[range]:
        """The places of all emissions, cut where those with a time of their own begin and end if `is_cut`."""
        length, own = len(self.values), self.times
        cuts = [place for place in range(1, length) if (place in own) != (place - 1 in own)] if is_cut and own else []
        return [range(start, end) for start, end in pairwise([0, *cuts, length])] if length else []


class Output:
    """Where an operator emits records. They leave when the whole batch has been processed."""

    __slots__ = ("_in_step", "_names", "_ports", "_record", "_records", "_rejections", "_values")

    def __init__(self, names: tuple[str, ...], record: Record) -> None:
        self._names = {name: index for index, name in enumerate(names)}
        self._record = record
        self._begin()

    def _begin(self) -> None:
        self._ports = [_Port() for _ in self._names]
        self._values = self._ports[0].values
        self._records: list[int] = []
        self._ports[0].records = self._records
        # Whether the `i`-th emission by the first port is the one of record `i`, so that `_records` is not kept.
        self._in_step = True
        self._rejections: dict[int, str] = {}

    def emit(
        self,
        value: str | bytes,
        key: str | bytes | None = None,
        at: int | None = None,
        port: str | None = None,
    ) -> None:
        """Emits a record with the key and the time of the one that is being processed, to the first output port.

        Pass `key`, an event time (`at`, milliseconds since 1970) or `port` to set another one.
        """
        kind = type(value)
        if kind is str:
            if not value.isascii():  # type: ignore[union-attr]
                value = _bytes_of(value)
        elif kind is not bytes:
            value = _bytes_of(value)
        if key is None and at is None and port is None:
            values = self._values
            if self._in_step:
                if len(values) == self._record._index:
                    values.append(value)
                    return
                self._fall_out_of_step()
            values.append(value)
            self._records.append(self._record._index)
        else:
            self._emit_otherwise(value, key, at, port)

    def _fall_out_of_step(self) -> None:
        """Notes the records of the emissions so far."""
        self._in_step = False
        self._records.extend(range(len(self._values)))

    def _emit_otherwise(self, value: Any, key: Any, at: int | None, name: str | None) -> None:
        index = 0 if name is None else self._names.get(name)
        if index is None:
            raise Error(f"there is no output `{name}`; this operator has `{'`, `'.join(self._names)}`")
        if at is not None and (type(at) is not int or not I64_MIN <= at < I64_END):
            raise Error(f"the event time `{at!r}` is not an `int` of milliseconds since 1970")
        if self._in_step:
            self._fall_out_of_step()
        port = self._ports[index]
        place = len(port.values)
        # From here on nothing but a key can fail, so a refused emission leaves nothing.
        if key is not None:
            port.keys[place] = _bytes_of(key)
        if at is not None:
            port.times[place] = at
        port.values.append(value)
        port.records.append(self._record._index)  # type: ignore[attr-defined]

    def reject(self, why: object) -> None:
        """Rejects the record that is being processed: the pipeline's `on-error` decides what follows, and the other records of
        the batch are not affected.

        What this record has emitted or written to states before stays, so reject first. Of several reasons the first counts.
        """
        # What is not text, such as half of a surrogate pair, cannot leave.
        reason = str(why).encode("utf-8", "replace").decode()
        self._rejections.setdefault(self._record._index, reason)

    def _emissions(self, cases: Any) -> list[Emission]:
        """What leaves. `cases` has the variants of the contract."""
        if self._in_step:
            self._ports[0].records = range(len(self._values))
        # Without the times of records, those of some emissions and the records' for others cannot be in one column.
        is_cut = "timestamp" in self._record._unread
        return [
            _emission(index, port, places, self._record, cases)
            for index, port in enumerate(self._ports)
            for places in port.runs(is_cut)
        ]

    def _rejected(self) -> list[Rejection]:
        return [Rejection(record, why) for record, why in self._rejections.items()]


def _emission(index: int, port: _Port, places: range, record: Record, cases: Any) -> Emission:
    """The emissions of a port at these places."""
    records, values = port.records[places.start : places.stop], port.values[places.start : places.stop]
    return Emission(
        index,
        _selection(records, len(record._batch.slots) >> 2, cases),
        _keys(port, places, records, record, cases),
        _values(values, cases),
        _times(port, places, records, record, cases),
    )


def _selection(records: Sequence[int], length: int, cases: Any) -> Any:
    is_all = len(records) == length and (type(records) is range or records == list(range(length)))
    return cases.Selection_All() if is_all else cases.Selection_Listed(packed(records))


def _keys(port: _Port, places: range, records: Sequence[int], record: Record, cases: Any) -> Any:
    own, batch = port.keys, record._batch
    if not own:
        return cases.EmittedKeys_Same()
    slots, of_batch = unpacked(batch.slots), packed_items_of(batch.keys)
    keys = [own[place] if place in own else of_batch[slots[at]] for place, at in zip(places, records, strict=True)]
    return cases.EmittedKeys_Fresh(packed_column_of(keys))


def _times(port: _Port, places: range, records: Sequence[int], record: Record, cases: Any) -> Any:
    own, are_unread = port.times, "timestamp" in record._unread
    if not own or (are_unread and places.start not in own):
        return cases.EmittedTimes_Same()
    of_batch = [] if are_unread else unpacked_times(record._batch.timestamps)
    times = [own[place] if place in own else of_batch[at] for place, at in zip(places, records, strict=True)]
    return cases.EmittedTimes_Fresh(packed_times(times))


def _values(values: list[Any], cases: Any) -> Any:
    """A column of values that are bytes or ASCII."""
    try:
        data = "".join(values).encode()
    except TypeError:
        # Some are bytes.
        data = b"".join([value.encode() if type(value) is str else value for value in values])
    return cases.EmittedValues_Bytes(PackedColumn(ends_of(values, len(data)), data)) if data else cases.EmittedValues_Empty()


def _bytes_of(value: Any) -> bytes:
    """The bytes that leave for something."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise Error(f"`{value!r}` is neither `str` nor `bytes`, and nothing else can be emitted; say `str(value)`")
    try:
        return str.encode(value)
    except UnicodeEncodeError as error:
        raise Error(f"`{value!r}` is not text that can be emitted: {error.reason}") from None
