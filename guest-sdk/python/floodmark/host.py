"""What the host offers, as functions that a component or a test puts here.

Each is looked up when it is called, so a test may be the host of one task after the other. Outside of both there is no host,
and lines of the log are dropped.
"""

from typing import Protocol

from .columns import Column, OptionalColumn


class Entries(Protocol):
    """Entries of a map; `more` says whether the range has further ones."""

    sub_keys: Column
    values: Column
    more: bool


class Items(Protocol):
    """Items of a list; `next` is the position to continue from, if there are more."""

    values: Column
    next: int | None


class Host:
    """What operators call."""

    def log(self, level: int, message: str) -> None:
        """Takes a line; levels are from 0 (trace) to 4 (error)."""

    def count(self, name: str, delta: int) -> None:
        """Adds to a counter."""

    def gauge(self, name: str, value: float) -> None:
        """Sets a gauge."""

    def observe(self, name: str, values: list[float]) -> None:
        """Adds values to a histogram."""

    def map_get(self, state: int, slots: list[int], sub_keys: Column) -> OptionalColumn:
        """Values of a map."""
        raise RuntimeError("states are read while a record is processed, and not elsewhere")

    def map_scan(
        self, state: int, slot: int, start: bytes, end: bytes | None, descending: bool, max: int
    ) -> Entries:
        """Entries of a map, in order."""
        raise RuntimeError("states are read while a record is processed, and not elsewhere")

    def list_read(self, state: int, slot: int, start: int, max: int) -> Items:
        """Items of a list, from a position on."""
        raise RuntimeError("states are read while a record is processed, and not elsewhere")

    def list_len(self, state: int, slots: list[int]) -> list[int]:
        """How long lists are."""
        raise RuntimeError("states are read while a record is processed, and not elsewhere")


current = Host()
