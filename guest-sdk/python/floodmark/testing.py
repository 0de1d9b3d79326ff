"""Runs an operator without the host: a task whose instance can be killed, with the state beside it.

    from floodmark.testing import Task

    task = Task(WordCount)
    assert task.run([("rain", ""), ("rain", "")]) == [("rain", "1"), ("rain", "2")]
    task.kill()  # What comes next is a fresh instance with the same state.
    assert task.run([("rain", "")]) == [("rain", "3")]
    assert task.value("count", "rain") == 3

It takes the same path as the component, from the columns of the contract to the columns of the contract, and refuses what a
host would refuse. It has no limits, no failures of its own and no checkpoints.
"""

import builtins
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import host, log, metrics, plain
from .columns import (
    NO_TIMESTAMP,
    Batch,
    Column,
    Emission,
    OptionalColumn,
    Result,
    column_of,
    items_of,
    optional_column_of,
    optional_items_of,
)
from .error import Error
from .instance import Instance
from .operator import Operator, states_of
from .state import State

#: Items of one answer: few, so that a test meets more than one page.
PAGE_ITEMS = 10
LEVELS = ("trace", "debug", "info", "warn", "error")

Bytes = str | bytes
Given = tuple[Bytes, Bytes] | tuple[Bytes, Bytes, int | None]


class Emitted:
    """A record that came out. It equals `(key, value)`, and `(key, value, timestamp)`."""

    __slots__ = ("key", "output", "timestamp", "value")

    def __init__(self, output: str, key: bytes, value: bytes, timestamp: int | None) -> None:
        self.output = output
        self.key = key
        self.value = value
        self.timestamp = timestamp

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Emitted):
            other = (other.key, other.value, other.timestamp)
        if not isinstance(other, tuple) or len(other) not in (2, 3):
            return NotImplemented
        same = _data(other[0]) == self.key and _data(other[1]) == self.value
        return same and (len(other) == 2 or other[2] == self.timestamp)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        time = "" if self.timestamp is None else f", {self.timestamp}"
        return f"({_shown(self.key)!r}, {_shown(self.value)!r}{time})"


class _Kept:
    """One state: for each key its entries, in the order of their sub-keys, with the time at which each was written.

    A value has the sub-key of no bytes, an item of a list its position.
    """

    def __init__(self, declared: State[Any]) -> None:
        self.declared = declared
        self.keys: dict[bytes, dict[bytes, tuple[bytes, int]]] = {}

    def live(self, key: bytes, now: int) -> list[tuple[bytes, bytes]]:
        ttl = self.declared.ttl_ms
        entries = self.keys.get(key, {})
        return sorted((sub, value) for sub, (value, at) in entries.items() if ttl is None or now < at + ttl)

    def set(self, key: bytes, sub_key: bytes, value: bytes | None, now: int) -> None:
        entries = self.keys.setdefault(key, {})
        if value is None:
            entries.pop(sub_key, None)
        else:
            entries[sub_key] = (value, now)

    def append(self, key: bytes, item: bytes, now: int) -> None:
        last = max(self.keys.get(key, {}), default=None)
        position = 0 if last is None else int.from_bytes(last, "big") + 1
        self.set(key, position.to_bytes(8, "big"), item, now)


class _Answer:
    """An answer of the host, with the given fields."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class _Host(host.Host):
    """The states of all keys, a clock, and what was logged and measured."""

    def __init__(self, states: Iterable[State[Any]]) -> None:
        self.states = [_Kept(state) for state in states]
        self.now = 0
        self.keys: list[bytes] = []
        self.lines: list[tuple[str, str]] = []
        self.metrics: dict[str, Any] = {}

    def log(self, level: int, message: str) -> None:
        self.lines.append((LEVELS[level], message))

    def count(self, name: str, delta: int) -> None:
        self.metrics[name] = self.metrics.get(name, 0) + delta

    def gauge(self, name: str, value: float) -> None:
        self.metrics[name] = value

    def observe(self, name: str, values: list[float]) -> None:
        self.metrics.setdefault(name, []).extend(values)

    def _live(self, state: int, slot: int, kind: int) -> list[tuple[bytes, bytes]]:
        kept = self.states[state]
        assert kept.declared.kind == kind, "a state is read as what it is"
        return kept.live(self.keys[slot], self.now)

    def map_get(self, state: int, slots: list[int], sub_keys: Column) -> OptionalColumn:
        asked = items_of(sub_keys)
        assert len(slots) == len(asked), "as many slots as sub-keys"
        found = [dict(self._live(state, slot, 2)).get(sub) for slot, sub in zip(slots, asked, strict=True)]
        return optional_column_of(found[:PAGE_ITEMS])

    def map_scan(
        self, state: int, slot: int, start: bytes, end: bytes | None, descending: bool, max: int
    ) -> Any:
        live = self._live(state, slot, 2)
        live = [entry for entry in live if entry[0] >= start and (end is None or entry[0] < end)]
        if descending:
            live.reverse()
        length = min(PAGE_ITEMS, max or 1)
        page = live[:length]
        sub_keys, values = column_of([sub for sub, _ in page]), column_of([value for _, value in page])
        return _Answer(sub_keys=sub_keys, values=values, more=len(live) > length)

    def list_read(self, state: int, slot: int, start: int, max: int) -> Any:
        live = [(int.from_bytes(at, "big"), item) for at, item in self._live(state, slot, 1)]
        live = [entry for entry in live if entry[0] >= start]
        length = min(PAGE_ITEMS, max or 1)
        following = live[length][0] if len(live) > length else None
        return _Answer(values=column_of([item for _, item in live[:length]]), next=following)

    def list_len(self, state: int, slots: list[int]) -> list[int]:
        return [len(self._live(state, slot, 1)) for slot in slots]


class Task:
    """One task of an operator: an instance, which can be killed, and the state, which stays."""

    def __init__(self, operator: type[Operator], config: Mapping[str, str] | None = None) -> None:
        self._class = operator
        self._config = list((config or {}).items())
        self._host = _Host(states_of(operator).values())
        self._names = [state.name for state in states_of(operator).values()]
        self._instance: Instance | None = None
        #: What was rejected: key, value and reason.
        self.rejected: builtins.list[tuple[bytes, bytes, str]] = []
        log.divert_logging()

    def run(self, records: Iterable[Given], input: str | None = None) -> builtins.list[Emitted]:
        """Processes one batch of `(key, value)` or `(key, value, timestamp)` and returns what was emitted, port by port.

        After an exception the state has not changed, and the instance is dropped.
        """
        inputs = self._class.inputs
        port = inputs.index(input) if input is not None else 0
        batch = _batch([(_data(record[0]), _data(record[1]), *record[2:]) for record in records])
        keys, values, slots = items_of(batch.keys), items_of(batch.values), [*batch.slots]
        now = self._host.now
        current = [
            optional_column_of([dict(kept.live(key, now)).get(b"") for key in keys])
            if kept.declared.kind == 0
            else OptionalColumn(b"", [], b"")
            for kept in self._host.states
        ]
        instance, self._instance = self._instance, None
        with _hosted(self._host, keys):
            if instance is None:
                instance = Instance(self._class)
                instance.open(self._config)
            packed = instance.process(port, plain.packed_batch(batch), plain.packed_states(current))
        result = plain.plain_result(packed, batch, plain)
        emitted = self._emitted(result.emissions, keys)
        self._apply(result, keys)
        self.rejected += [(keys[slots[one.record]], values[one.record], one.reason) for one in result.rejections]
        self._instance = instance
        return emitted

    def kill(self) -> None:
        """Drops the instance, as the host may between any two batches. The next batch gets a fresh one."""
        self._instance = None

    def pass_time(self, milliseconds: int) -> None:
        """Lets time pass, for states with a time to live."""
        self._host.now += milliseconds

    def complete_checkpoint(self, checkpoint: int) -> None:
        """Tells the instance, if there is one, that a checkpoint is durable."""
        if self._instance is not None:
            with _hosted(self._host, []):
                self._instance.completed(checkpoint)

    def abort_checkpoint(self, checkpoint: int) -> None:
        """Tells the instance, if there is one, that a checkpoint was aborted."""
        if self._instance is not None:
            with _hosted(self._host, []):
                self._instance.aborted(checkpoint)

    def upgrade(self, operator: type[Operator]) -> "Task":
        """The task with another version of its operator. States keep what they have; those of an older version migrate."""
        upgraded = Task(operator, dict(self._config))
        upgraded._host.now = self._host.now
        for kept in upgraded._host.states:
            declared = kept.declared
            before = next((one for one in self._host.states if one.declared.name == declared.name), None)
            if before is None:
                continue
            if before.declared.kind != declared.kind:
                raise Error(f"state `{declared.name}` is kept as another kind")
            kept.keys = {key: dict(entries) for key, entries in before.keys.items()}
            if before.declared.version == declared.version:
                continue
            for entries in kept.keys.values():
                migrated = declared.migrated(before.declared.version, [value for value, _ in entries.values()])
                for (sub_key, (_, at)), value in zip([*entries.items()], migrated, strict=True):
                    entries[sub_key] = (value, at)
        return upgraded

    def value(self, state: str, key: Bytes) -> Any:
        """What a value state keeps for a key, or `None`."""
        kept = self._kept(state)
        found = kept.live(_data(key), self._host.now)
        return kept.declared._encoding.decode(found[0][1]) if found else None

    def value_bytes(self, state: str, key: Bytes) -> bytes | None:
        """The bytes that a value state keeps for a key."""
        found = self._kept(state).live(_data(key), self._host.now)
        return found[0][1] if found else None

    def set_value_bytes(self, state: str, key: Bytes, data: bytes) -> None:
        """Sets the bytes of a value state, such as those that another plugin wrote."""
        self._kept(state).set(_data(key), b"", data, self._host.now)

    def list(self, state: str, key: Bytes) -> builtins.list[Any]:
        """The list that a state keeps for a key."""
        kept = self._kept(state)
        return [kept.declared._encoding.decode(item) for _, item in kept.live(_data(key), self._host.now)]

    def map(self, state: str, key: Bytes) -> dict[Any, Any]:
        """The map that a state keeps for a key, in order."""
        kept = self._kept(state)
        by, encoding = kept.declared.sub_key(), kept.declared._encoding
        return {by.decode(sub): encoding.decode(value) for sub, value in kept.live(_data(key), self._host.now)}

    def take_log(self) -> Sequence[tuple[str, str]]:
        """The lines that were logged since the last call: level and text."""
        lines, self._host.lines = self._host.lines, []
        return lines

    def take_metrics(self) -> Mapping[str, Any]:
        """Sums of counters, last values of gauges and values of histograms since the last call."""
        taken, self._host.metrics = self._host.metrics, {}
        return taken

    def _kept(self, state: str) -> _Kept:
        if state not in self._names:
            raise KeyError(f"no state `{state}` is declared; there are {self._names}")
        return self._host.states[self._names.index(state)]

    def _emitted(self, emissions: Sequence[Emission], keys: builtins.list[bytes]) -> builtins.list[Emitted]:
        outputs, emitted = self._class.outputs, []
        for emission in emissions:
            fresh = emission.keys
            of = items_of(fresh.value) if isinstance(fresh, plain.EmittedKeys_Fresh) else keys
            values = items_of(emission.values)
            for slot, value, time in zip(emission.slots, values, emission.timestamps, strict=True):
                at = None if time == NO_TIMESTAMP else time
                emitted.append(Emitted(outputs[emission.output], of[slot], value, at))
        return emitted

    def _apply(self, result: Result, keys: builtins.list[bytes]) -> None:
        states, now = self._host.states, self._host.now
        writes: builtins.list[Any] = [*result.values, *result.lists, *result.maps]
        assert len({write.state for write in writes}) == len(writes), "at most one item a state"
        for value in result.values:
            assert len(set(value.slots)) == len(value.slots), "no slot appears twice"
            for slot, item in zip(value.slots, optional_items_of(value.values), strict=True):
                states[value.state].set(keys[slot], b"", item, now)
        for write in writes[len(result.values) :]:
            for slot in write.cleared:
                states[write.state].keys.pop(keys[slot], None)
        for appended in result.lists:
            for slot, item in zip(appended.slots, items_of(appended.values), strict=True):
                states[appended.state].append(keys[slot], item, now)
        for mapped in result.maps:
            entries = [*zip(mapped.slots, items_of(mapped.sub_keys), strict=True)]
            assert len(set(entries)) == len(entries), "no sub-key of a slot appears twice"
            for (slot, sub_key), item in zip(entries, optional_items_of(mapped.values), strict=True):
                states[mapped.state].set(keys[slot], sub_key, item, now)


class _hosted:
    """Puts a host in the place of the current one while a call is under way."""

    def __init__(self, own: _Host, keys: list[bytes]) -> None:
        self._own = own
        own.keys = keys

    def __enter__(self) -> None:
        self._before, host.current = host.current, self._own

    def __exit__(self, *_: object) -> None:
        host.current = self._before
        metrics._drop()


def _data(data: Bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _shown(data: bytes) -> Bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _batch(records: Sequence[Any]) -> Batch:
    """The records with each key once, in order of appearance."""
    slots: dict[bytes, int] = {}
    of_records = [slots.setdefault(record[0], len(slots)) for record in records]
    times = [record[2] if len(record) > 2 and record[2] is not None else NO_TIMESTAMP for record in records]
    return Batch(column_of([*slots]), of_records, column_of([record[1] for record in records]), times)
