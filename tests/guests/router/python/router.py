"""Sends numbers to `small` or `large` by a limit, and odd ones to `odd` as well; what is not a number is rejected."""

import re

from floodmark import Config, Operator, Output, Record

NUMBER = re.compile(rb"-?[0-9]+")


class Router(Operator):
    """Parts numbers; the option `limit` is the least that is large."""

    outputs = ("small", "large", "odd")

    def open(self, config: Config) -> None:
        self.limit = config.int("limit", 100)

    def process(self, record: Record, out: Output) -> None:
        value = record.value
        number = int(value) if NUMBER.fullmatch(value) else None
        if number is None or not -(2**63) <= number < 2**63:
            out.reject(f"not a number: {value.decode(errors='replace')}")
            return
        out.emit(value, port="small" if number < self.limit else "large")
        if number % 2:
            out.emit(value, key="odd", at=0, port="odd")
