"""Adds to each record what is known of its key: what the last record of the other input said."""

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
