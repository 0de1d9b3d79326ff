"""Catches a packed call that differs from what the operator did, from the plain call, or that says `all` or `same` where records,
slots, keys or times are others; and columns that are taken for unread but are read.

Operators, batches and states are drawn by chance. What a call must give is told by a model that writes down each step, and
both answers are taken apart here, by `struct`, without the code of the SDK.
"""

import random
import struct
import unittest
from collections.abc import Callable
from typing import Any

import floodmark
from floodmark import Error, List, Map, Operator, Output, Record, Value, columns, i64, packed, plain
from floodmark.instance import Instance
from floodmark.testing import Task
from floodmark.unread import unread_columns

Step = tuple[Any, ...]
#: Port, key, value and time of an emission.
Emitted = tuple[int, bytes, bytes, int]


class Does(Operator):
    """Does for each record the next steps of a list."""

    inputs = ("in", "side")
    outputs = ("out", "other")
    unread_columns = ()
    steps: list[list[Step]] = []

    count = Value(int)
    text = Value(str)
    signed = Value(i64)
    unit = Value(None)
    float = Value(float)
    json = Value(floodmark.json)
    list = List(str)
    map = Map(int, str)

    def process(self, record: Record, out: Output) -> None:
        for what, *more in self.steps.pop(0):
            match what:
                case "emit":
                    out.emit(*more)
                case "reject":
                    out.reject(*more)
                case "append":
                    self.list.append(*more)
                case "forget":
                    self.list.clear()
                    self.map.clear()
                case "put":
                    self.map[more[0]] = more[1]
                case "remove":
                    self.map.remove(*more)
                case "set":
                    getattr(self, more[0]).set(more[1])
                case "clear":
                    getattr(self, more[0]).clear()
                case "add":
                    self.count.set(self.count.get(0) + more[0])
                case "get":
                    out.emit(repr(getattr(self, more[0]).get("none")))


class Fresh(Does):
    """The same without times of records."""

    unread_columns = ("timestamp",)


KINDS = ("count", "text", "signed", "unit", "float", "json")


def varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def encoded(kind: str, value: Any) -> bytes:
    match kind:
        case "count":
            return varint(value)
        case "signed":
            return varint(value * 2 if value >= 0 else -value * 2 - 1)
        case "text":
            return varint(len(value.encode())) + value.encode()
        case "float":
            return struct.pack("<d", value)
        case "unit":
            return b""
        case _:
            return floodmark.json.encode(value)


def drawn(kind: str, chance: random.Random) -> Any:
    match kind:
        case "count":
            return chance.choice([0, 5, 127, 128, 300, 16383, 16384, 1 << 30, (1 << 63) - 2, 1 << 63])
        case "signed":
            return chance.choice([0, -1, 300, 1 << 30, -(1 << 63), (1 << 63) - 1])
        case "text":
            return chance.choice(["", "a", "abc", "é", "x" * 200])
        case "float":
            return chance.choice([0.0, -1.5, 1e300])
        case "unit":
            return None
        case _:
            return chance.choice([None, [1], {"a": "é"}])


class Model:
    """A batch, the steps of its records, and what they must give."""

    def __init__(self, chance: random.Random) -> None:
        self.keys = [f"key{'y' * chance.randrange(2)}{index}".encode() for index in range(chance.randrange(1, 9))]
        records = 0 if chance.random() < 0.05 else chance.randrange(1, 20)
        self.slots = [chance.randrange(len(self.keys)) for _ in range(records)]
        if chance.random() < 0.5:
            # Each key once, in order.
            self.slots = list(range(len(self.keys)))
        self.times = [chance.choice([index, columns.NO_TIMESTAMP]) for index in range(len(self.slots))]
        is_full = chance.random() < 0.5
        self.before: dict[str, list[Any]] = {
            kind: [(drawn(kind, chance),) if is_full or chance.random() < 0.6 else () for _ in self.keys] for kind in KINDS
        }
        self.now = {kind: list(values) for kind, values in self.before.items()}
        self.written: dict[str, set[int]] = {kind: set() for kind in KINDS}
        self.emitted: list[Emitted] = []
        self.rejected: dict[int, str] = {}
        self.cleared: set[int] = set()
        self.items: list[tuple[int, bytes]] = []
        self.entries: dict[tuple[int, int], str | None] = {}
        #: What may happen to a record, from one thing alone to everything.
        self.may = chance.choice([["one"], ["add", "one"], ["add", "one", "none"], ["two", "none"], ["any"], ["any", "add"]])
        self.steps = [self.record(index, chance) for index in range(len(self.slots))]

    def record(self, index: int, chance: random.Random) -> list[Step]:
        steps: list[Step] = []
        if "add" in self.may:
            steps.append(("add", 1))
        if "any" in self.may:
            steps += [self.any(chance) for _ in range(chance.randrange(5))]
        emits = chance.choice([name for name in self.may if name != "add"])
        steps += [("emit", str(index % 3))] * {"one": 1, "two": 2}.get(emits, 0)
        slot = self.slots[index]
        for step in steps:
            self.does(index, slot, *step)
        return steps

    def any(self, chance: random.Random) -> Step:
        kind = chance.choice(KINDS)
        value = chance.choice(["", "a", b"\xff\0", "é", "long" * 9])
        return chance.choice(
            [
                ("emit", value),
                ("emit", value, f"k{chance.randrange(5)}"),
                ("emit", value, None, chance.randrange(-9, 9)),
                ("emit", value, b"\xff", chance.choice([None, 1 << 62]), "other"),
                ("reject", "because"),
                ("append", value if isinstance(value, str) else "b"),
                ("put", chance.randrange(4), "v"),
                ("remove", chance.randrange(4)),
                ("forget",),
                ("set", kind, drawn(kind, chance)),
                ("clear", kind),
                ("get", kind),
            ]
        )

    def does(self, index: int, slot: int, what: str, *more: Any) -> None:
        match what:
            case "emit":
                value, key, at, port = (*more, None, None, None)[:4]
                key = self.keys[slot] if key is None else key.encode() if isinstance(key, str) else key
                value = value.encode() if isinstance(value, str) else value
                self.emitted.append((0 if port is None else 1, key, value, self.times[index] if at is None else at))
            case "get":
                kept = self.now[more[0]][slot]
                self.does(index, slot, "emit", repr(kept[0] if kept else "none"))
            case "reject":
                self.rejected.setdefault(index, more[0])
            case "append":
                self.items.append((slot, encoded("text", more[0])))
            case "forget":
                self.cleared.add(slot)
                self.items = [item for item in self.items if item[0] != slot]
                self.entries = {at: value for at, value in self.entries.items() if at[0] != slot}
            case "put":
                self.entries[slot, more[0]] = more[1]
            case "remove":
                self.entries[slot, more[0]] = None
            case "add":
                kept = self.now["count"][slot]
                self.does(index, slot, "set", "count", (kept[0] if kept else 0) + more[0])
            case "set":
                self.now[more[0]][slot] = (more[1],)
                self.written[more[0]].add(slot)
            case "clear":
                if self.now[more[0]][slot]:
                    self.now[more[0]][slot] = ()
                    self.written[more[0]].add(slot)

    def expected(self) -> dict[str, Any]:
        values = {
            KINDS.index(kind): {
                slot: encoded(kind, *self.now[kind][slot]) if self.now[kind][slot] else None for slot in slots
            }
            for kind, slots in self.written.items()
            if slots
        }
        by_slot = {slot: [item for at, item in self.items if at == slot] for slot, _ in self.items}
        entries = {(slot, struct.pack(">Q", sub)): value for (slot, sub), value in self.entries.items()}
        return {
            "emissions": [[one for one in self.emitted if one[0] == port] for port in (0, 1)],
            "rejections": self.rejected,
            "values": values,
            "list": (self.cleared, by_slot),
            "map": (self.cleared, {at: None if value is None else encoded("text", value) for at, value in entries.items()}),
        }

    def batch(self, ends: Callable[[list[int]], Any], times: Callable[[list[int]], Any]) -> tuple[Any, list[Any]]:
        """The batch and its states, with these ways to write numbers."""

        def column(items: list[bytes]) -> Any:
            return columns.Column(ends([sum(map(len, items[: index + 1])) for index in range(len(items))]), b"".join(items))

        def current(kind: str) -> Any:
            there = sum(bool(kept) << slot for slot, kept in enumerate(self.before[kind]))
            filled = column([encoded(kind, *kept) if kept else b"" for kept in self.before[kind]])
            return columns.OptionalColumn(there.to_bytes((len(self.keys) + 7) // 8, "little"), filled.ends, filled.bytes)

        values = column([str(index).encode() for index in range(len(self.slots))])
        states = [current(kind) for kind in KINDS] + [columns.OptionalColumn(b"", ends([]), b"")] * 2
        return columns.Batch(column(self.keys), ends(self.slots), values, times(self.times)), states


def u32(data: bytes) -> list[int]:
    assert type(data) is bytes
    return list(struct.unpack(f"<{len(data) // 4}I", data))


def items(column: Any, numbers: Callable[[Any], list[int]]) -> list[Any]:
    present, ends = getattr(column, "present", None), numbers(column.ends)
    data = [column.bytes[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert present is None or int.from_bytes(present, "little") >> len(ends) == 0, "bits past the last item are zero"
    return [item if present is None or present[index // 8] >> index % 8 & 1 else None for index, item in enumerate(data)]


def states(result: Any, numbers: Callable[[Any], list[int]], slots: Callable[[Any], list[int]]) -> dict[str, Any]:
    """What a result says of states and rejections."""
    values = {one.state: dict(zip(slots(one.slots), items(one.values, numbers), strict=True)) for one in result.values}
    told: dict[str, Any] = {
        "rejections": {one.record: one.reason for one in result.rejections},
        "values": values,
        "list": (set(), {}),
        "map": (set(), {}),
    }
    for one in result.lists:
        assert one.state == len(KINDS)
        told["list"] = (set(numbers(one.cleared)), {})
        for slot, item in zip(numbers(one.slots), items(one.values, numbers), strict=True):
            told["list"][1].setdefault(slot, []).append(item)
    for one in result.maps:
        assert one.state == len(KINDS) + 1
        at = zip(numbers(one.slots), items(one.sub_keys, numbers), strict=True)
        told["map"] = (set(numbers(one.cleared)), dict(zip(at, items(one.values, numbers), strict=True)))
    return told


def read_packed(result: packed.Result, model: Model) -> dict[str, Any]:
    def selected(selection: Any, length: int) -> list[int]:
        return list(range(length)) if isinstance(selection, packed.Selection_All) else u32(selection.value)

    emissions: list[list[Emitted]] = [[], []]
    for one in result.emissions:
        records = selected(one.records, len(model.slots))
        is_empty = isinstance(one.values, packed.EmittedValues_Empty)
        values = [b""] * len(records) if is_empty else items(one.values.value, u32)
        keys, times = [model.keys[model.slots[record]] for record in records], [model.times[record] for record in records]
        if isinstance(one.keys, packed.EmittedKeys_Fresh):
            keys = items(one.keys.value, u32)
        if isinstance(one.timestamps, packed.EmittedTimes_Fresh):
            times = list(struct.unpack(f"<{len(records)}q", one.timestamps.value))
        emissions[one.output] += [(one.output, *rest) for rest in zip(keys, values, times, strict=True)]
    return states(result, u32, lambda selection: selected(selection, len(model.keys))) | {"emissions": emissions}


def read_plain(result: columns.Result, model: Model) -> dict[str, Any]:
    emissions: list[list[Emitted]] = [[], []]
    for one in result.emissions:
        own = items(one.keys.value, list) if isinstance(one.keys, plain.EmittedKeys_Fresh) else model.keys
        keys = [own[slot] for slot in one.slots]
        emissions[one.output] += [
            (one.output, *rest) for rest in zip(keys, items(one.values, list), one.timestamps, strict=True)
        ]
    return states(result, list, list) | {"emissions": emissions}


def called(operator: type[Does], model: Model, batch: Any, current: Any) -> packed.Result:
    Does.steps = [*model.steps]
    instance = Instance(operator)
    instance.open([])
    return instance.process(1, batch, current)


class ByChance(unittest.TestCase):
    def test_packed_and_plain_give_what_was_done(self) -> None:
        said = {"all": 0, "listed": 0, "fresh keys": 0, "fresh times": 0, "empty": 0, "all slots": 0}
        for seed in range(800):
            model = Model(random.Random(seed))
            expected = model.expected()
            as_bytes = [lambda of, code=code: struct.pack(f"<{len(of)}{code}", *of) for code in "Iq"]
            for operator in (Does, Fresh):
                with self.subTest(seed=seed, operator=operator.__name__):
                    batch, current = model.batch(*as_bytes)
                    if operator is Fresh:
                        batch.timestamps = b""
                    found = called(operator, model, batch, current)
                    self.assertEqual(read_packed(found, model), expected)
                    batch, current = model.batch(list, list)
                    again = called(operator, model, plain.packed_batch(batch), plain.packed_states(current))
                    self.assertEqual(read_plain(plain.plain_result(again, batch, plain), model), expected)
            for one in found.emissions:
                said["all"] += isinstance(one.records, packed.Selection_All)
                said["listed"] += isinstance(one.records, packed.Selection_Listed)
                said["fresh keys"] += isinstance(one.keys, packed.EmittedKeys_Fresh)
                said["fresh times"] += isinstance(one.timestamps, packed.EmittedTimes_Fresh)
                said["empty"] += isinstance(one.values, packed.EmittedValues_Empty)
            said["all slots"] += any(isinstance(one.slots, packed.Selection_All) for one in found.values)
        self.assertGreater(min(said.values()), 20, f"chance leaves something out: {said}")


class Said(unittest.TestCase):
    """What is said in one word, and where it must not be."""

    def check(self, emits: list[int], expected: list[int] | None) -> None:
        """So many emissions for each record; the records that are listed, or none for all."""
        model = Model(random.Random(0))
        model.keys = [b"a", b"b"]
        model.slots = [index % 2 for index in range(len(emits))]
        model.times = [0] * len(emits)
        model.before = {kind: [()] * 2 for kind in KINDS}
        model.steps = [[("emit", "x")] * times for times in emits]
        batch, current = model.batch(lambda of: struct.pack(f"<{len(of)}I", *of), lambda of: struct.pack(f"<{len(of)}q", *of))
        [emission] = called(Does, model, batch, current).emissions
        listed = getattr(emission.records, "value", None)
        self.assertEqual(None if listed is None else u32(listed), expected)

    def test_all_is_each_record_once_in_order(self) -> None:
        self.check([1, 1, 1], None)
        self.check([2, 0], [0, 0])
        self.check([0, 2], [1, 1])
        self.check([1, 1, 0], [0, 1])
        self.check([0, 1, 1], [1, 2])
        self.check([2, 1, 0], [0, 0, 1])
        self.check([1, 0, 2], [0, 2, 2])


class Ports(Operator):
    inputs = ("clicks", "views")
    unread_columns = {"views": ("value", "timestamp")}

    def process(self, record: Record, out: Output) -> None:
        out.emit(record.value)


class Unread(unittest.TestCase):
    def found(self, process: Any, **more: Any) -> set[str]:
        operator = type("Found", (Operator,), {"process": process, "__module__": __name__, **more})
        [columns] = unread_columns(operator)
        return {*columns}

    def test_what_process_does_not_read_is_found(self) -> None:
        both = {"value", "timestamp"}
        self.assertEqual(self.found(lambda self, record, out: out.emit("x")), both)
        self.assertEqual(self.found(lambda self, record, out: out.emit(record.key + record.input.encode())), both)
        self.assertEqual(self.found(lambda self, record, out: out.emit(record.text)), {"timestamp"})
        self.assertEqual(self.found(lambda self, event, out: out.emit("x", at=event.timestamp)), {"value"})
        self.assertEqual(self.found(lambda self, record, out: out.emit(record.value, at=record.timestamp)), set())
        self.assertEqual(self.found(lambda self, record, out: out.emit("x", at=1)), {"value"})

    def test_what_could_be_read_is_read(self) -> None:
        def wrapped(*arguments: Any) -> None: ...

        def stored(self: Any, record: Record, out: Output) -> None:
            again = record
            out.emit(again.key)

        def inner(self: Any, record: Record, out: Output) -> None:
            out.emit([record.key for _ in range(1)][0] + (lambda: record.value)())

        for process in (
            wrapped,
            stored,
            inner,
            lambda self, record, out: self.other(record),
            lambda self, record, out: self.other(out, record),
            lambda self, record, out: self.other(record, self.key),
            lambda self, record, out: out.emit(f"{record}"),
            lambda self, record, out: out.emit(getattr(record, "value")),  # noqa: B009
            lambda self, record, out: out.emit(locals()["record"].value),
        ):
            self.assertEqual(self.found(process), set())

        def opens(self: Any, config: Any) -> None:
            self.process = self.other

        self.assertEqual(self.found(lambda self, record, out: None, open=opens), set())
        self.assertEqual(self.found(lambda self, record, out: None, unread_columns=()), set())

    def test_each_port_may_say_its_own(self) -> None:
        self.assertEqual(unread_columns(Ports), [frozenset(), {"value", "timestamp"}])
        self.assertEqual(Task(Ports).run([("k", "a")], "clicks"), [("k", "a")])

    def test_reading_what_was_said_to_be_unread_is_told(self) -> None:
        with self.assertRaisesRegex(Error, r'the value of a record is read, .* set `unread_columns` .* without "value"'):
            Task(Ports).run([("k", "a")], "views")

        class Late(Operator):
            unread_columns = ("timestamp",)

            def process(self, record: Record, out: Output) -> None:
                if record.value:
                    out.emit(str(record.timestamp))
                out.emit(repr(record))

        with self.assertRaisesRegex(Error, r"the timestamp of a record is read, .*test_packed.py:\d+ in process"):
            Task(Late).run([("k", "a")])
        shown = "Record(key=b'k', value=b'', timestamp=unread, input='in')"
        self.assertEqual(Task(Late).run([("k", "")]), [("k", shown)])

        class Shows(Operator):
            unread_columns = ("value",)

            def process(self, record: Record, out: Output) -> None:
                out.emit(repr(record))

        self.assertEqual(Task(Shows).run([("k", "")]), [("k", "Record(key=b'k', value=unread, timestamp=None, input='in')")])

    def test_a_wrong_declaration_is_refused(self) -> None:
        wrong = "are not unread columns"
        for said, message in (("value", wrong), (("key",), wrong), ({"in": "value"}, wrong), ({"side": ()}, "the port `side`")):
            with self.assertRaisesRegex(TypeError, message):
                type("Wrong", (Operator,), {"unread_columns": said})


if __name__ == "__main__":
    unittest.main()
