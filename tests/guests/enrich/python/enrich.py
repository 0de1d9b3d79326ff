"""Adds to each record the profile of its key: the value of the last record of the other input."""

from floodmark import Operator, Output, Record, Value


class Enrich(Operator):
    """Joins records with profiles."""

    inputs = ("records", "profiles")

    profile = Value(str)

    def process(self, record: Record, out: Output) -> None:
        text = record.text
        if record.input == "records":
            out.emit(f"{text}|{self.profile.get('?')}")
        elif text:
            self.profile.set(text)
        else:
            self.profile.clear()
