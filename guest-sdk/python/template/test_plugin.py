"""Catches counts that start at 0, that mix up keys, or that are lost with an instance."""

import unittest

from floodmark.testing import Task

from plugin import Counter


class Counts(unittest.TestCase):
    def test_each_key_counts_from_one(self) -> None:
        task = Task(Counter)
        records = [("rain", ""), ("sun", ""), ("rain", "any value")]
        self.assertEqual(task.run(records), [("rain", "1"), ("sun", "1"), ("rain", "2")])

    def test_counting_goes_on_after_an_instance_is_gone(self) -> None:
        task = Task(Counter)
        task.run([("rain", "")])
        task.kill()
        self.assertEqual(task.run([("rain", "")]), [("rain", "2")])
        self.assertEqual(task.value("count", "rain"), 2)


if __name__ == "__main__":
    unittest.main()
