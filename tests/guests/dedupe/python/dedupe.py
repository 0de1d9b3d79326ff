"""Lets one record of each key through, and the next one only when none came for an hour."""

from floodmark import Operator, Output, Record, Value


class Dedupe(Operator):
    """Keeps which keys were seen."""

    seen = Value(None, ttl="1h")

    def process(self, record: Record, out: Output) -> None:
        if not self.seen.exists():
            out.emit(record.value)
        self.seen.set(None)
