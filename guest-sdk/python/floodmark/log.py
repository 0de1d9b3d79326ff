"""Brings what Python logs and prints to the log of the host.

`logging` goes there level by level, `print` at info and standard error at warn, line by line. What the standard library
knows of clocks and randomness is replaced by errors, since a component has neither and would crash.
"""

import io
import linecache
import logging
import os
import sys
import time
import types
from typing import Any, NoReturn

from . import host
from .error import told

TRACE, DEBUG, INFO, WARN, ERROR = range(5)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage() if record.name == "root" else f"{record.name}: {record.getMessage()}"
        if record.exc_info:
            # Without lines of source, which a component cannot read.
            text = f"{text}: {told(record.exc_info[1])}" if record.exc_info[1] else text
        host.current.log(_level(record.levelno), text)


def _level(number: int) -> int:
    if number >= logging.ERROR:
        return ERROR
    if number >= logging.WARNING:
        return WARN
    if number >= logging.INFO:
        return INFO
    return DEBUG if number >= logging.DEBUG else TRACE


class _Lines(io.TextIOBase):
    """A stream whose lines go to the log. What has no end yet waits for it."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._begun = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            host.current.log(self._level, line)
        return len(text)


def divert_logging() -> None:
    """Sends what `logging` is told to the host, from all loggers and levels."""
    root = logging.getLogger()
    root.handlers = [_Handler()]
    root.setLevel(logging.NOTSET + 1)
    # A line has no time of its own: the host knows when it came.
    logging.time = types.SimpleNamespace(time=lambda: 0.0, time_ns=lambda: 0)  # type: ignore[attr-defined]
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)


def divert_streams() -> None:
    """Sends what is printed to the host."""
    sys.stdout = _Lines(INFO)
    sys.stderr = _Lines(WARN)


def refuse_the_outside() -> None:
    """Makes errors of what would crash: there is no clock and no randomness, so that replay is exact, and no file."""

    def no_clock(*_: Any) -> NoReturn:
        raise RuntimeError("an operator has no clock, so that replay is exact; use `record.timestamp`")

    def no_randomness(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("an operator has no randomness, so that replay is exact; use `random.Random(seed)`")

    for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"):
        setattr(time, name, no_clock)
    os.urandom = no_randomness
    # There are no files either: a traceback does without the lines of source.
    linecache.checkcache = lambda filename=None: None
    linecache.updatecache = lambda filename, module_globals=None: []
    random = sys.modules.get("random")
    if random is not None:
        for name in ("random", "randint", "randrange", "choice", "choices", "sample", "shuffle", "uniform", "seed"):
            setattr(random, name, no_randomness)
