"""Catches a call that does not see what it wrote itself, entries in the wrong order or twice where pages meet, values that live
too long, and migrations that mix up values."""

import random
import unittest
from typing import Any

import floodmark
from floodmark import List, Map, Operator, Output, Record, Value, i16, i64, u64
from floodmark.testing import Task


class Commands(Operator):
    """Does to its states what the value of each record says, and emits what it sees."""

    map = Map(i16, str)
    list = List(str)
    value = Value(str)

    def process(self, record: Record, out: Output) -> None:
        verb, *words = record.text.split()
        match verb:
            case "set":
                self.map[int(words[0])] = words[1]
            case "del":
                self.map.remove(int(words[0]))
            case "get":
                self.map.prefetch(map(int, words))
                out.emit(" ".join(self.map.get(int(word), "-") for word in words))
            case "range":
                start, end = (None if word == "-" else int(word) for word in words[:2])
                entries = self.map.items(start, end, reverse=len(words) > 2)
                out.emit(" ".join(f"{sub_key}={value}" for sub_key, value in entries))
            case "ends":
                out.emit(f"{self.map.first()} {self.map.last()} {bool(self.map)}")
            case "clear":
                self.map.clear()
                self.list.clear()
                self.value.clear()
            case "push":
                self.list.extend(words)
                self.value.set(words[-1])
            case "replace":
                self.list.replace(words)
            case "list":
                out.emit(f"{len(self.list)} {bool(self.list)} {' '.join(self.list)} {self.value.get('-')}")


class Model:
    """The same, dumber."""

    def __init__(self) -> None:
        self.map: dict[int, str] = {}
        self.list: list[str] = []
        self.value = "-"

    def does(self, command: str) -> str | None:
        verb, *words = command.split()
        match verb:
            case "set":
                self.map[int(words[0])] = words[1]
            case "del":
                self.map.pop(int(words[0]), None)
            case "get":
                return " ".join(self.map.get(int(word), "-") for word in words)
            case "range":
                low, high = (None if word == "-" else int(word) for word in words[:2])
                entries = sorted(self.map.items(), reverse=len(words) > 2)
                inside = [
                    f"{sub_key}={value}"
                    for sub_key, value in entries
                    if (low is None or sub_key >= low) and (high is None or sub_key < high)
                ]
                return " ".join(inside)
            case "ends":
                ends = sorted(self.map.items())
                return f"{ends[0]} {ends[-1]} True" if ends else "None None False"
            case "clear":
                self.__init__()  # type: ignore[misc]
            case "push":
                self.list += words
                self.value = words[-1]
            case "replace":
                self.list = words
            case "list":
                return f"{len(self.list)} {bool(self.list)} {' '.join(self.list)} {self.value}"
        return None


def command(chance: random.Random) -> str:
    verb = chance.choices(
        ["set", "del", "get", "range", "ends", "clear", "push", "replace", "list"], [30, 10, 8, 8, 4, 1, 20, 1, 8]
    )[0]

    def number() -> str:
        return str(chance.randint(-30, 30))

    match verb:
        case "set":
            return f"set {number()} v{number()}"
        case "get":
            return f"get {' '.join(number() for _ in range(15))}"
        case "range":
            bounds = [chance.choice([number(), "-"]) for _ in range(2)]
            return f"range {' '.join(bounds)}{chance.choice(['', ' down'])}"
        case "push" | "replace":
            return f"{verb} {number()} {number()}"
        case "del":
            return f"del {number()}"
        case _:
            return verb


class AgainstAModel(unittest.TestCase):
    def test_states_are_what_was_written_to_them(self) -> None:
        for seed in range(30):
            chance = random.Random(seed)
            task = Task(Commands)
            models = {"a": Model(), "b": Model()}
            for _ in range(40):
                batch: list[tuple[str, str]] = []
                expected: list[tuple[str, str]] = []
                for _ in range(chance.randint(1, 8)):
                    key, said = chance.choice("ab"), command(chance)
                    batch.append((key, said))
                    answer = models[key].does(said)
                    if answer is not None:
                        expected.append((key, answer))
                if chance.random() < 0.2:
                    task.kill()
                self.assertEqual(task.run(batch), expected, f"seed {seed}: {batch}")
            for key, model in models.items():
                self.assertEqual(task.map("map", key), dict(sorted(model.map.items())))
                self.assertEqual(task.list("list", key), model.list)


class Visits(Operator):
    name = "visits"
    visits = Value(int, ttl="1h")

    def process(self, record: Record, out: Output) -> None:
        self.visits.set(self.visits.get(0) + 1)
        out.emit(str(self.visits.get()))


class Richer(Operator):
    visits = Value(floodmark.json, version=3, migrate={1: (int, lambda all: {"all": all}), 2: lambda old: old})

    def process(self, record: Record, out: Output) -> None:
        out.emit(str(self.visits.get({"all": 0})["all"]))


class Signed(Operator):
    visits = Value(i64)


class Lives(unittest.TestCase):
    def test_a_value_lives_as_long_as_it_says(self) -> None:
        task = Task(Visits)
        task.run([("k", "")])
        task.pass_time(3_599_999)
        self.assertEqual(task.run([("k", "")]), [("k", "2")])
        task.pass_time(3_600_000)
        self.assertEqual(task.run([("k", "")]), [("k", "1")])

    def test_a_newer_version_takes_over(self) -> None:
        task = Task(Visits)
        task.run([("k", ""), ("k", ""), ("l", "")])
        richer = task.upgrade(Richer)
        self.assertEqual(richer.run([("k", ""), ("l", ""), ("m", "")]), [("k", "2"), ("l", "1"), ("m", "0")])
        with self.assertRaisesRegex(floodmark.Error, "has version 1 and does not migrate from version 3"):
            richer.upgrade(Visits)

    def test_what_does_not_decode_is_told(self) -> None:
        task = Task(Visits)
        task.run([("fine", "")])
        task.set_value_bytes("visits", "k", b"\x80")
        with self.assertRaisesRegex(floodmark.Error, "state `visits` of key `k` does not decode as version 1") as told:
            task.run([("new", ""), ("fine", ""), ("k", "")])
        self.assertIn("raise `version`", str(told.exception))

    def test_what_does_not_encode_is_told_and_leaves_nothing(self) -> None:
        class Negative(Operator):
            balance = Value(int)

            def process(self, record: Record, out: Output) -> None:
                self.balance.set(int(record.text))

        task = Task(Negative)
        with self.assertRaisesRegex(floodmark.Error, "state `balance` as u64: `-1` is negative .* `i64`"):
            task.run([("k", "1"), ("l", "-1")])
        self.assertIsNone(task.value("balance", "k"))


class Declarations(unittest.TestCase):
    def check(self, message: str, declare: Any) -> None:
        with self.assertRaisesRegex((TypeError, ValueError, RuntimeError), message):
            declare()

    def test_wrong_ones_are_refused_where_they_stand(self) -> None:
        import json

        self.check("cannot keep `set`", lambda: Value(set))
        self.check("import `json` from floodmark", lambda: Value(json))  # type: ignore[call-overload]
        self.check("`1 hour` is not a duration", lambda: Value(int, ttl="1 hour"))
        self.check("is not between 1ms and 36525d", lambda: Value(int, ttl="0s"))
        self.check("cannot migrate from version 1", lambda: Value(int, migrate={1: int}))
        self.check("cannot be the sub-key", lambda: Map(float, int))
        self.check("are not ports", lambda: type("Ports", (Operator,), {"outputs": "out"}))
        self.check("the same name", lambda: type("Twice", (Operator,), {"a": Value(int, name="b"), "b": Value(int)}))

    def test_names_are_those_of_attributes(self) -> None:
        class Named(Operator):
            last_seen = Value(int)
            _own = List(u64)
            other = Value(int, name="said")

        names = [state.name for state in floodmark.operator.states_of(Named).values()]
        self.assertEqual(names, ["last-seen", "own", "said"])

    def test_a_state_that_was_assigned_is_an_error(self) -> None:
        class Assigns(Operator):
            count = Value(int)

            def process(self, record: Record, out: Output) -> None:
                self.count = 1  # type: ignore[assignment]

        with self.assertRaisesRegex(floodmark.Error, r"write `self.count.set\(value\)`"):
            Task(Assigns).run([("k", "")])


if __name__ == "__main__":
    unittest.main()
