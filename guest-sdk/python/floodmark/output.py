"""What an operator emits, collected until the batch is done.

An emission notes the place of its record in the batch, so its key and its time are looked up once for all. Only what is said
otherwise is kept beside it. ASCII becomes bytes at the end, for all of a port at once. Other text becomes bytes when it is
emitted, so what has none fails where it is emitted.
"""

from itertools import accumulate
from typing import Any

from .columns import Batch, Column, Emission, Rejection, column_of, items_of
from .error import Error
from .record import Record

I64_MIN, I64_END = -(1 << 63), 1 << 63


class _Port:
    """What leaves by one port: of the `i`-th emission `values[i]`, by the record `records[i]`."""

    __slots__ = ("keys", "records", "times", "values")

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.records: list[int] = []
        # By the place of the emission, where it is not that of the record.
        self.keys: dict[int, bytes] = {}
        self.times: dict[int, int] = {}


class Output:
    """Where an operator emits records. They leave when the whole batch has been processed."""

    __slots__ = ("_names", "_ports", "_record", "_records", "_rejections", "_values")

    def __init__(self, names: tuple[str, ...], record: Record) -> None:
        self._names = {name: index for index, name in enumerate(names)}
        self._record = record
        self._begin()

    def _begin(self) -> None:
        self._ports = [_Port() for _ in self._names]
        self._values = self._ports[0].values
        self._records = self._ports[0].records
        self._rejections: dict[int, str] = {}

    def emit(
        self,
        value: str | bytes,
        key: str | bytes | None = None,
        at: int | None = None,
        port: str | None = None,
    ) -> None:
        """Emits a record with the key and the time of the one that is being processed, by the first output port.

        Another `key`, another event time (`at`, milliseconds since 1970) and another `port` may be said.
        """
        kind = type(value)
        if kind is str:
            if not value.isascii():  # type: ignore[union-attr]
                value = _bytes_of(value)
        elif kind is not bytes:
            value = _bytes_of(value)
        if key is None and at is None and port is None:
            self._values.append(value)
            self._records.append(self._record._index)
        else:
            self._emit_otherwise(value, key, at, port)

    def _emit_otherwise(self, value: Any, key: Any, at: int | None, name: str | None) -> None:
        index = 0 if name is None else self._names.get(name)
        if index is None:
            raise Error(f"there is no output `{name}`; this operator has `{'`, `'.join(self._names)}`")
        if at is not None and (type(at) is not int or not I64_MIN <= at < I64_END):
            raise Error(f"the event time `{at!r}` is no `int` of milliseconds since 1970")
        port = self._ports[index]
        place = len(port.values)
        # From here on nothing but a key can fail, so a refused emission leaves nothing.
        if key is not None:
            port.keys[place] = _bytes_of(key)
        if at is not None:
            port.times[place] = at
        port.values.append(value)
        port.records.append(self._record._index)

    def reject(self, why: object) -> None:
        """Refuses the record that is being processed: it goes where the pipeline's `on-error` says, or fails the job, and the
        other records of the batch count.

        What this record has emitted or written to states before stays: reject first. Of several reasons the first counts.
        """
        # What is no text, such as half of a surrogate pair, cannot leave.
        reason = str(why).encode("utf-8", "replace").decode()
        self._rejections.setdefault(self._record._index, reason)

    def _emissions(self, batch: Batch, like_input: Any, fresh: Any) -> list[Emission]:
        """What leaves. `like_input` and `fresh` make the variants of the contract."""
        return [
            _columns(index, port, batch, like_input, fresh)
            for index, port in enumerate(self._ports)
            if port.values
        ]

    def _rejected(self) -> list[Rejection]:
        return [Rejection(record, why) for record, why in self._rejections.items()]


def _columns(index: int, port: _Port, batch: Batch, like_input: Any, fresh: Any) -> Emission:
    records, values = port.records, _values(port.values)
    if len(records) == len(batch.slots) and records == list(range(len(records))):
        slots, times = batch.slots, batch.timestamps
    else:
        of_slots, of_times = batch.slots, batch.timestamps
        slots = [of_slots[record] for record in records]
        times = [of_times[record] for record in records]
    if port.times:
        times = list(times)
        for place, time in port.times.items():
            times[place] = time
    if not port.keys:
        return Emission(index, like_input(), slots, values, times)
    known, of_batch = port.keys, items_of(batch.keys)
    slot_of: dict[bytes, int] = {}
    slots = [
        slot_of.setdefault(known[place] if place in known else of_batch[slot], len(slot_of))
        for place, slot in enumerate(slots)
    ]
    return Emission(index, fresh(column_of(list(slot_of))), slots, values, times)


def _values(values: list[Any]) -> Column:
    """A column of values that are bytes or ASCII."""
    try:
        data = "".join(values).encode()
    except TypeError:
        # Some are bytes.
        return column_of([value.encode() if type(value) is str else value for value in values])
    return Column(list(accumulate(map(len, values))), data)


def _bytes_of(value: Any) -> bytes:
    """The bytes that leave for something."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise Error(f"`{value!r}` is neither `str` nor `bytes`, and nothing else can be emitted; say `str(value)`")
    try:
        return str.encode(value)
    except UnicodeEncodeError as error:
        raise Error(f"`{value!r}` is no text that can be emitted: {error.reason}") from None
