"""Numbers that appear among the metrics of the job, labelled with operator and task.

    from floodmark import metrics

    late = metrics.counter("late-records")
    late.add(1)

They are collected while a batch is processed and handed over at its end, one call for each name; those of a batch that fails
are dropped. Names are 1 to 64 characters of `a-z`, `0-9`, `-` and `_`; the host leaves out what goes beyond its limits.
"""

from . import host

_counts: dict[str, int] = {}
_gauges: dict[str, float] = {}
_observed: dict[str, list[float]] = {}


class Counter:
    """A number that only grows."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def add(self, delta: int = 1) -> None:
        """Adds to it."""
        if type(delta) is not int or not 0 <= delta < 1 << 64:
            raise ValueError(f"counter `{self.name}` cannot grow by {delta!r}")
        _counts[self.name] = _counts.get(self.name, 0) + delta


class Gauge:
    """A number that is what it was set to last."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def set(self, value: float) -> None:
        """Sets it."""
        _gauges[self.name] = float(value)


class Histogram:
    """How values are distributed."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def observe(self, value: float) -> None:
        """Adds a value."""
        _observed.setdefault(self.name, []).append(float(value))


def counter(name: str) -> Counter:
    """The counter of this name."""
    return Counter(name)


def gauge(name: str) -> Gauge:
    """The gauge of this name."""
    return Gauge(name)


def histogram(name: str) -> Histogram:
    """The histogram of this name."""
    return Histogram(name)


def _hand_over() -> None:
    """Gives the host what was collected."""
    if _counts or _gauges or _observed:
        for name, delta in _counts.items():
            host.current.count(name, min(delta, (1 << 64) - 1))
        for name, value in _gauges.items():
            host.current.gauge(name, value)
        for name, values in _observed.items():
            host.current.observe(name, values)
        _drop()


def _drop() -> None:
    _counts.clear()
    _gauges.clear()
    _observed.clear()
