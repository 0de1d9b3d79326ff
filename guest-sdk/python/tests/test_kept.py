"""Catches states that keep another value than the one that was set: one changed in place later, or one that reads differently in
the next call; and what cannot be encoded or decoded when it fails for others than the one that asks."""

import unittest
from collections.abc import Callable
from typing import Any

import floodmark
from floodmark import Encoding, Error, List, Map, Operator, Output, Record, Value, i64
from floodmark.testing import Task

Step = Callable[[Any, Record, Output], Any]


class Keeps(Operator):
    """Does to its states what the test says, record by record."""

    steps: list[Step] = []

    json = Value(floodmark.json)
    ints = Value(int)
    signed = Value(i64)
    floats = Value(float)
    flags = Value(bool)
    text = Value(str)
    raw = Value(bytes)
    unit = Value(None)
    by_text = Map(str, floodmark.json)
    counts = Map(int, int)
    items = List(floodmark.json)
    words = List(str)

    def process(self, record: Record, out: Output) -> None:
        found = self.steps[int(record.text)](self, record, out)
        if found is not None:
            out.emit(repr(found))


def run(*steps: Step, task: Task | None = None, together: bool = True, key: str = "k") -> tuple[list[str], Task]:
    """What the steps give, in one batch or each in a batch of its own."""
    task = task or Task(Keeps)
    Keeps.steps = list(steps)
    records = [(key, str(index)) for index in range(len(steps))]
    batches = [records] if together else [[record] for record in records]
    return [one.value.decode() for batch in batches for one in task.run(batch)], task


class InPlace(unittest.TestCase):
    def check(self, steps: list[Step], expected: list[Any]) -> Task:
        """The steps give the same however they are cut into batches."""
        for together in (True, False):
            found, task = run(*steps, together=together)
            self.assertEqual(found, [repr(one) for one in expected], f"together: {together}")
        return task

    def test_a_value_that_is_changed_after_get_stays_as_it_was(self) -> None:
        def changes(self: Keeps, *_: Any) -> Any:
            self.json.get()["list"].append(1)
            return self.json.get()

        task = self.check([lambda self, *_: self.json.set({"list": []}), changes, changes], [{"list": []}] * 2)
        self.assertEqual(task.value("json", "k"), {"list": []})

    def test_a_value_that_is_changed_after_set_stays_as_it_was(self) -> None:
        def changes(self: Keeps, *_: Any) -> Any:
            given = {"list": [0]}
            self.json.set(given)
            given["list"].append(1)
            return self.json.get()

        task = self.check([changes, lambda self, *_: self.json.get()], [{"list": [0]}] * 2)
        self.assertEqual(task.value("json", "k"), {"list": [0]})

    def test_entries_of_a_map_stay_as_they_were(self) -> None:
        def begins(self: Keeps, *_: Any) -> None:
            given = [1]
            self.by_text["a"] = given
            given.append(2)

        def changes(self: Keeps, *_: Any) -> Any:
            self.by_text["a"].append(3)
            next(self.by_text.values()).append(4)
            first = self.by_text.first()
            assert first is not None
            first[1].append(5)
            return self.by_text.get("a"), [*self.by_text.items()]

        task = self.check([begins, changes, changes], [([1], [("a", [1])])] * 2)
        self.assertEqual(task.map("by-text", "k"), {"a": [1]})

    def test_items_of_a_list_stay_as_they_were(self) -> None:
        def begins(self: Keeps, *_: Any) -> None:
            given = [1]
            self.items.append(given)
            given.append(2)
            next(iter(self.items)).append(3)

        self.check([begins, lambda self, *_: [*self.items]], [[[1]]])

    def test_what_is_read_is_what_a_later_call_would_read(self) -> None:
        # The value that is set, and what there is to read.
        cases: list[tuple[str, Any, Any]] = [
            ("json", {1: (1, 2)}, {"1": [1, 2]}),
            ("json", None, None),
            ("floats", 3, 3.0),
            ("raw", bytearray(b"a"), b"a"),
            ("ints", 1 << 63, 1 << 63),
            ("signed", -1, -1),
            ("flags", True, True),
            ("text", "ä", "ä"),
            ("unit", None, None),
        ]
        for name, given, expected in cases:
            with self.subTest(name=name, given=given):

                def sets(self: Keeps, *_: Any, name: str = name, given: Any = given) -> Any:
                    getattr(self, name).set(given)
                    return [getattr(self, name).get("none")]

                def gets(self: Keeps, *_: Any, name: str = name) -> Any:
                    return [getattr(self, name).get("none")]

                self.check([sets, gets, gets], [[expected]] * 3)

    def test_bytes_that_are_changed_after_set_stay_as_they_were(self) -> None:
        def sets(self: Keeps, *_: Any) -> Any:
            given = bytearray(b"a")
            self.raw.set(given)
            given[0] = 0
            return self.raw.get()

        self.check([sets, lambda self, *_: self.raw.get()], [b"a", b"a"])

    def test_an_encoding_of_ones_own_is_not_taken_for_immutable(self) -> None:
        class Set(Encoding[set[int]]):
            name = "set"

            def encode(self, value: set[int]) -> Any:
                return bytearray(sorted(value))

            def decode(self, data: bytes) -> set[int]:
                return set(data)

        class Sets(Operator):
            seen = Value(Set())

            def process(self, record: Record, out: Output) -> None:
                seen = self.seen.get(set())
                seen.add(int(record.text))
                if len(seen) < 2:
                    self.seen.set(seen)
                seen.add(9)
                out.emit(repr(self.seen.get()))

        task = Task(Sets)
        self.assertEqual(task.run([("k", "1"), ("k", "2")]), [("k", "{1}"), ("k", "{1}")])
        self.assertEqual(task.value("seen", "k"), {1})


class Refused(unittest.TestCase):
    def check(self, act: Step, message: str) -> None:
        """It fails where it is done, so it can be caught, and nothing of it is kept."""

        def catches(self: Keeps, record: Record, out: Output) -> Any:
            try:
                act(self, record, out)
            except Error as error:
                return str(error)
            return "no error"

        found, task = run(catches)
        self.assertRegex(found[0], message)
        for state in ("json", "ints", "signed", "floats", "flags", "text", "raw", "unit"):
            self.assertIsNone(task.value_bytes(state, "k"))
        for state in ("by-text", "counts"):
            self.assertEqual(task.map(state, "k"), {})
        for state in ("items", "words"):
            self.assertEqual(task.list(state, "k"), [])
        with self.assertRaisesRegex(Error, rf"(?s)key `k`: .*{message}.*test_kept.py:\d+ in (<lambda>|process)"):
            run(act)

    def test_values(self) -> None:
        self.check(lambda self, *_: self.ints.set(-1), "state `ints` as u64: `-1` is negative .*`i64`")
        self.check(lambda self, *_: self.ints.set("x"), "state `ints` as u64: `'x'` is not a valid u64")
        self.check(lambda self, *_: self.ints.set(1 << 64), "state `ints` as u64: `18446744073709551616` is not a valid u64")
        self.check(lambda self, *_: self.ints.set(True), "state `ints` as u64: `True` is not a valid u64")
        self.check(lambda self, *_: self.signed.set(1 << 63), "state `signed` as i64: `9223372036854775808` is not a valid i64")
        self.check(lambda self, *_: self.flags.set(1), "state `flags` as bool: `1` is not a valid `bool`")
        self.check(lambda self, *_: self.floats.set("1"), "state `floats` as f64: `'1'` is not a valid `float`")
        self.check(lambda self, *_: self.floats.set(1 << 2000), "state `floats` as f64: .* too large")
        self.check(lambda self, *_: self.text.set("\ud800"), "state `text` as text: .*surrogates not allowed")
        self.check(lambda self, *_: self.text.set(b"a"), "state `text` as text: `b'a'` is not a valid `str`")
        self.check(lambda self, *_: self.raw.set("a"), "state `raw` as raw: `'a'` is not `bytes`")
        self.check(lambda self, *_: self.unit.set(0), "state `unit` as unit: `0` is not `None`")
        self.check(lambda self, *_: self.json.set({"a": {1}}), "state `json` as json: .*not JSON serializable")
        self.check(lambda self, *_: self.json.set("\ud800"), "state `json` as json: .*surrogates not allowed")

    def test_maps(self) -> None:
        def sets(state: str, sub_key: Any, value: Any) -> Step:
            return lambda self, *_: getattr(self, state).__setitem__(sub_key, value)

        self.check(sets("counts", 1, -1), "state `counts` as u64: `-1` is negative")
        self.check(sets("by_text", "a", {1}), "state `by-text` as json: .*not JSON serializable")
        self.check(sets("counts", "a", 1), "a sub-key of state `counts` as u64: `'a'` is not a sub-key")
        self.check(sets("by_text", "\ud800", 1), "a sub-key of state `by-text` as text: .*surrogates")

    def test_lists(self) -> None:
        self.check(lambda self, *_: self.words.append("\ud800"), "state `words` as text: .*surrogates")
        self.check(lambda self, *_: self.items.extend([1, {1}]), "state `items` as json: .*not JSON serializable")
        self.check(lambda self, *_: self.items.replace([1, {1}]), "state `items` as json: .*not JSON serializable")

    def test_a_refused_value_leaves_the_one_before(self) -> None:
        def begins(self: Keeps, *_: Any) -> None:
            self.ints.set(1)
            self.items.append(1)
            self.by_text["a"] = 1

        def fails(self: Keeps, *_: Any) -> Any:
            for act in (
                lambda: self.ints.set(-1),
                lambda: self.items.replace([2, {2}]),
                lambda: self.by_text.__setitem__("a", {2}),
            ):
                try:
                    act()
                except Error:
                    continue
                raise AssertionError
            return self.ints.get(), [*self.items], self.by_text["a"]

        self.assertEqual(run(begins, fails)[0], ["(1, [1], 1)"])

    def test_an_encoding_that_gives_no_bytes_is_told(self) -> None:
        class Careless(Encoding[int]):
            def encode(self, value: int) -> Any:
                return str(value)

        class Sets(Operator):
            value = Value(Careless())

            def process(self, record: Record, out: Output) -> None:
                self.value.set(1)

        with self.assertRaisesRegex(Error, r"state `value` as its encoding: .*`str`.*test_kept.py:\d+ in process"):
            Task(Sets).run([("k", "")])

    def test_emissions(self) -> None:
        message = r"`.a\\+ud800.` is not text that can be emitted: surrogates not allowed"
        self.check(lambda self, _, out: out.emit("a\ud800"), message)
        self.check(lambda self, _, out: out.emit("", key="a\ud800"), message)
        self.check(lambda self, _, out: out.emit("a\ud800", at=1), message)

    def test_a_refused_emission_leaves_nothing_for_the_next(self) -> None:
        def emits(self: Keeps, record: Record, out: Output) -> None:
            for more in ({"key": "x", "at": "soon"}, {"at": 1, "key": 7}):
                try:
                    out.emit("a", **more)
                except Error:
                    out.emit("b")

        Keeps.steps = [emits]
        self.assertEqual(Task(Keeps).run([("k", "0")]), [("k", "b", None), ("k", "b", None)])


class Unreadable(unittest.TestCase):
    """One key or entry has bytes that are not a value."""

    def task(self) -> Task:
        task = Task(Keeps)
        for state, good in (("json", b"1"), ("ints", b"\1")):
            task.set_value_bytes(state, "good", good)
            task.set_value_bytes(state, "bad", b"\x80")
        return task

    def both(self, *steps: Step) -> list[str]:
        Keeps.steps = list(steps)
        task = self.task()
        records = [(key, str(index)) for index in range(len(steps)) for key in ("good", "bad")]
        return [one.value.decode() for one in task.run(records)]

    def test_only_who_reads_it_fails(self) -> None:
        def good_only(self: Keeps, record: Record, _: Output) -> Any:
            return (self.ints.get(), self.json.get()) if record.key == b"good" else None

        self.assertEqual(self.both(good_only), ["(1, 1)"])

        def catches(self: Keeps, record: Record, _: Output) -> Any:
            try:
                return self.ints.get()
            except Error as error:
                return "key `bad` does not decode" in str(error)

        self.assertEqual(self.both(catches, catches), ["1", "True", "1", "True"])

    def test_it_may_be_cleared_and_set(self) -> None:
        def exists(self: Keeps, *_: Any) -> Any:
            return self.ints.exists(), self.json.exists()

        def clears(self: Keeps, *_: Any) -> Any:
            self.ints.clear()
            self.json.clear()
            return self.ints.get(), self.json.get()

        def sets(self: Keeps, *_: Any) -> Any:
            self.ints.set(2)
            self.json.set(2)
            return self.ints.get(), self.json.get()

        yes, none, two = "(True, True)", "(None, None)", "(2, 2)"
        self.assertEqual(self.both(exists, clears, sets), [yes, yes, none, none, two, two])
        self.assertEqual(self.both(sets, clears), [two, two, none, none])

    def test_exists_is_true_or_false_with_and_without_a_call(self) -> None:
        def exists(self: Keeps, *_: Any) -> Any:
            there = self.ints.exists
            return "yes" if there else "no", there == there(), there != (not there), f"{there}"

        def clears(self: Keeps, *_: Any) -> Any:
            self.ints.clear()

        yes, no = "('yes', True, True, 'True')", "('no', True, True, 'False')"
        self.assertEqual(self.both(exists, clears, exists), [yes, yes, no, no])

    def test_clear_decodes_nothing(self) -> None:
        decoded = []

        class Counts(Encoding[int]):
            def encode(self, value: int) -> bytes:
                return bytes((value,))

            def decode(self, data: bytes) -> int:
                decoded.append(data)
                return data[0]

        class Clears(Operator):
            value = Value(Counts())
            map = Map(int, Counts())

            def process(self, record: Record, out: Output) -> None:
                if record.text == "set":
                    self.value.set(1)
                    self.map[1] = 1
                else:
                    out.emit(f"{self.value.exists()} {1 in self.map} {[*self.map]} {bool(self.map)}")
                    self.value.clear()
                    self.map.remove(1)

        task = Task(Clears)
        task.run([("a", "set"), ("b", "set")])
        self.assertEqual(task.run([("a", ""), ("b", "")]), [(key, "True True [1] True") for key in "ab"])
        self.assertEqual(decoded, [])
        self.assertIsNone(task.value("value", "a"))

    def test_a_sub_key_too(self) -> None:
        def spoiled(self: Keeps, *_: Any) -> None:
            self.counts[1] = 1
            self.counts[2] = 1 << 62

        def reads(self: Keeps, *_: Any) -> Any:
            self.counts.prefetch([1, 2])
            try:
                self.counts.get(2)
            except Error as error:
                return self.counts[1], [*self.counts], "the map `counts` does not decode" in str(error)
            return None

        task = run(spoiled)[1]
        entries = task._kept("counts").keys[b"k"]
        entries[(2).to_bytes(8, "big")] = (b"\x80", 0)
        self.assertEqual(run(reads, task=task)[0], ["(1, [1, 2], True)"])


if __name__ == "__main__":
    unittest.main()
