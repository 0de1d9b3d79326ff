"""Catches emissions with the wrong key, time or port, half a call that is kept after an exception, errors that do not say where
they come from, and options, lines of the log and numbers that get lost."""

import logging
import unittest

from floodmark import Config, Error, Operator, Output, Record, Value, metrics
from floodmark.log import _Lines
from floodmark.testing import Task


class Emits(Operator):
    """`key at port value`, each `-` for what is that of the record."""

    inputs = ("in", "side")
    outputs = ("out", "other")

    def process(self, record: Record, out: Output) -> None:
        for said in record.text.split(";"):
            key, at, port, value = said.split(",")
            if value == "reject":
                out.reject(f"because of {key}")
                continue
            out.emit(
                value.encode() if value.startswith("b") else value,
                key=None if key == "-" else key,
                at=None if at == "-" else int(at),
                port=None if port == "-" else port,
            )


class Emissions(unittest.TestCase):
    def check(self, values: list[str], expected: list[tuple[str, str, str, int | None]]) -> Task:
        task = Task(Emits)
        given = [(f"k{index}", value, index or None) for index, value in enumerate(values)]
        emitted = task.run(given)
        found = [(one.output, one.key.decode(), one.value.decode(), one.timestamp) for one in emitted]
        self.assertEqual(found, expected)
        return task

    def test_key_and_time_are_those_of_the_record(self) -> None:
        self.check(
            ["-,-,-,a", "-,-,-,bytes", "-,-,-,ä"],
            [("out", "k0", "a", None), ("out", "k1", "bytes", 1), ("out", "k2", "ä", 2)],
        )

    def test_ascii_and_other_text(self) -> None:
        self.check(["-,-,-,ä", "-,-,-,€"], [("out", "k0", "ä", None), ("out", "k1", "€", 1)])

    def test_none_and_many(self) -> None:
        self.check(
            ["-,-,-,a", "x,-,-,reject", "-,-,-,c;-,-,-,d"],
            [("out", "k0", "a", None), ("out", "k2", "c", 2), ("out", "k2", "d", 2)],
        )

    def test_others_may_be_said(self) -> None:
        self.check(
            ["-,-,-,a;x,-,-,b", "x,7,-,c", "-,8,-,d;-,-,other,e", "x,9,other,f"],
            [
                ("out", "k0", "a", None),
                ("out", "x", "b", None),
                ("out", "x", "c", 7),
                ("out", "k2", "d", 8),
                ("other", "k2", "e", 2),
                ("other", "x", "f", 9),
            ],
        )

    def test_a_rejection_leaves_the_others_alone_and_the_first_reason_counts(self) -> None:
        task = self.check(["one,-,-,reject;two,-,-,reject", "-,-,-,a"], [("out", "k1", "a", 1)])
        self.assertEqual(task.rejected, [(b"k0", b"one,-,-,reject;two,-,-,reject", "because of one")])

    def test_what_cannot_be_emitted_is_told(self) -> None:
        with self.assertRaisesRegex(Error, "a record with the key `k`: there is no output `none`; .*`out`, `other`"):
            Task(Emits).run([("k", "-,-,none,a")])

        class Numbers(Operator):
            def process(self, record: Record, out: Output) -> None:
                out.emit(1)  # type: ignore[arg-type]

        with self.assertRaisesRegex(Error, r"`1` is neither `str` nor `bytes`.*test_operators.py:\d+ in process"):
            Task(Numbers).run([("k", "")])


class Fails(Operator):
    count = Value(int)

    def open(self, config: Config) -> None:
        self.seen = 0

    def process(self, record: Record, out: Output) -> None:
        self.seen += 1
        metrics.counter("seen").add()
        self.count.set(self.count.get(0) + 1)
        self.check(record.text)
        out.emit(f"{self.seen} {self.count.get()}")

    def check(self, text: str) -> None:
        if text == "exit":
            raise SystemExit(1)
        if text == "deep":
            self.check(text)
        if text:
            int(text)


class Failures(unittest.TestCase):
    def test_nothing_of_a_failed_call_is_kept(self) -> None:
        task = Task(Fails)
        self.assertEqual(task.run([("k", "")]), [("k", "1 1")])
        for bad in ("bad", "exit", "deep"):
            with self.assertRaises(Error):
                task.run([("k", ""), ("k", bad)])
            self.assertEqual(task.value("count", "k"), 1)
        self.assertEqual(task.take_metrics(), {"seen": 1})
        self.assertEqual(task.run([("k", "")]), [("k", "1 2")])

    def test_an_error_says_what_and_where(self) -> None:
        where = r"\(test_operators.py:\d+ in process, test_operators.py:\d+ in check\)"
        told = rf"a record with the key `k\\n`: ValueError: invalid literal .*: 'bad' {where}"
        with self.assertRaisesRegex(Error, told):
            Task(Fails).run([("k\n", "bad")])

    def test_an_error_of_a_value_that_is_no_text_shows_it(self) -> None:
        with self.assertRaisesRegex(Error, r"the value `\\xff` is not UTF-8"):
            Task(Fails).run([("k", b"\xff")])


class Options(unittest.TestCase):
    def check(self, options: dict[str, str], expected: str) -> None:
        class Opens(Operator):
            def open(self, config: Config) -> None:
                self.told = f"{config.int('first')} {config.float('second', 0.5)} {config.bool('third', False)}"

            def process(self, record: Record, out: Output) -> None:
                out.emit(self.told)

        try:
            found = Task(Opens, options).run([("", "")])[0].value.decode()
        except Error as error:
            found = str(error)
        self.assertTrue(found.startswith(expected), found)

    def test_options_are_read_and_checked(self) -> None:
        self.check({"first": "1"}, "1 0.5 False")
        self.check({"first": "-1", "second": "2", "third": "true"}, "-1 2.0 True")
        self.check({}, "option `first` is missing; set it")
        self.check({"first": "1_0"}, "option `first` is `1_0`: not an integer")
        self.check({"first": "1", "third": "yes"}, "option `third` is `yes`: neither `true` nor `false`")
        known = "this operator knows `first`, `second`, `third`"
        self.check({"first": "1", "secund": "2"}, f"unknown option `secund`; {known}")


class Listens(Operator):
    def open(self, config: Config) -> None:
        self.heard: list[int] = []

    def checkpoint_completed(self, checkpoint: int) -> None:
        self.heard.append(checkpoint)

    def checkpoint_aborted(self, checkpoint: int) -> None:
        self.heard.append(-checkpoint)

    def process(self, record: Record, out: Output) -> None:
        logging.getLogger("deep").debug("heard %s", self.heard)
        logging.warning("careful", exc_info=ValueError("cause"))
        print("begun", end=" ", file=_Lines(2))
        print("a line", file=_Lines(2))
        metrics.counter("count").add(2)
        metrics.gauge("gauge").set(3)
        metrics.histogram("histogram").observe(4)
        out.emit(f"{self.heard} {record.input}")


class Around(unittest.TestCase):
    def test_checkpoints_the_log_and_metrics(self) -> None:
        task = Task(Listens)
        task.complete_checkpoint(1)
        self.assertEqual(task.run([("k", "")]), [("k", "[] in")])
        task.take_log()
        task.complete_checkpoint(2)
        task.abort_checkpoint(3)
        self.assertEqual(task.run([("k", ""), ("k", "")])[1], ("k", "[2, -3] in"))
        self.assertEqual(
            task.take_log()[:3], [("debug", "deep: heard [2, -3]"), ("warn", "careful: ValueError: cause"), ("info", "a line")]
        )
        self.assertEqual(task.take_metrics(), {"count": 6, "gauge": 3.0, "histogram": [4.0, 4.0, 4.0]})

    def test_a_listener_that_fails_is_logged_and_made_anew(self) -> None:
        class Deaf(Operator):
            def checkpoint_completed(self, checkpoint: int) -> None:
                raise ValueError("too loud")

            def process(self, record: Record, out: Output) -> None:
                out.reject("\ud800")

        task = Task(Deaf)
        task.run([("k", "")])
        self.assertEqual(task.rejected, [(b"k", b"", "?")])
        task.complete_checkpoint(1)
        self.assertEqual(task.run([("k", "")]), [])
        [(level, line)] = task.take_log()
        self.assertEqual(level, "error")
        self.assertRegex(line, r"ValueError: too loud \(test_operators.py:\d+ in checkpoint_completed\)")


if __name__ == "__main__":
    unittest.main()
