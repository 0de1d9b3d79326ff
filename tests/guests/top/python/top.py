"""Counts, in a map of each key, how often each value came, and emits the three most frequent ones with their counts."""

from floodmark import Map, Operator, Output, Record

TOP = 3


class Top(Operator):
    """Counts values by key."""

    counts = Map(str, int)

    def process(self, record: Record, out: Output) -> None:
        value = record.text
        self.counts[value] = self.counts.get(value, 0) + 1
        # Stable, so equal counts stay in the order of their values.
        counts = sorted(self.counts.items(), key=lambda entry: -entry[1])
        out.emit(" ".join(f"{value}={count}" for value, count in counts[:TOP]))
