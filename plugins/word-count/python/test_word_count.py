"""Catches counts that start at 0, that mix up words, or that are lost with an instance.

Needs the SDK where Python looks for it: `PYTHONPATH=../../../guest-sdk/python python3 -m unittest`.
"""

import unittest

from floodmark.testing import Task

from word_count import WordCount


class Counts(unittest.TestCase):
    def test_each_word_counts_from_one(self) -> None:
        words = [("rain", ""), ("sun", ""), ("rain", "any value"), ("rain", "")]
        counts = [("rain", "1"), ("sun", "1"), ("rain", "2"), ("rain", "3")]
        self.assertEqual(Task(WordCount).run(words), counts)

    def test_counting_goes_on_after_an_instance_is_gone(self) -> None:
        task = Task(WordCount)
        task.run([("rain", ""), ("rain", "")])
        task.kill()
        self.assertEqual(task.run([("rain", "")]), [("rain", "3")])
        self.assertEqual(task.value("count", "rain"), 3)

    def test_a_word_is_any_bytes_and_a_count_has_the_time_of_its_word(self) -> None:
        self.assertEqual(Task(WordCount).run([(b"\xff\0", "", 7)]), [(b"\xff\0", "1", 7)])


if __name__ == "__main__":
    unittest.main()
