"""Keeps the last values of each key in a list: emits how many there are and all of them, the oldest first."""

from floodmark import Config, List, Operator, Output, Record


class History(Operator):
    """Remembers as many values as the option `length` says."""

    values = List(str)

    def open(self, config: Config) -> None:
        self.length = config.int("length", 5)
        if self.length < 0:
            raise ValueError(f"option `length` is {self.length}, and no list is shorter than nothing")

    def process(self, record: Record, out: Output) -> None:
        self.values.append(record.text)
        values = list(self.values)
        # A list loses items only all at once, so it is made short when it is twice as long as it needs to be.
        excess = max(len(values) - self.length, 0)
        values = values[excess:]
        if excess >= self.length:
            self.values.replace(values)
        out.emit(f"{len(values)} {','.join(values)}")
