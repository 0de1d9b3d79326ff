"""Counts words: for the n-th record of a key it emits `n`, from 1 on, as decimal text under the same key.

It does not look at values, so it counts anything that has a key.
"""

from floodmark import Operator, Output, Record, Value


class WordCount(Operator):
    """How often each word was seen."""

    count = Value(int)

    def process(self, record: Record, out: Output) -> None:
        count = self.count.get(0) + 1
        self.count.set(count)
        out.emit(str(count))
