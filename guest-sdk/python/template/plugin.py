"""Counts records: for the n-th record of a key it emits `n`, from 1 on."""

from floodmark import Operator, Output, Record, Value


class Counter(Operator):
    """How often each key was seen."""

    count = Value(int)

    def process(self, record: Record, out: Output) -> None:
        count = self.count.get(0) + 1
        self.count.set(count)
        out.emit(str(count))
