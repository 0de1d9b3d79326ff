"""The options that a pipeline gives an operator.

They arrive as text. Each look-up names the option in its error, and an option that was not looked up is refused after
`open`, so a misspelt one never counts as a default.
"""

import builtins
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from .error import Error

T = TypeVar("T")

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_REQUIRED: Any = object()


class Config:
    """The options of one operator, by name. Those without a default must be set."""

    def __init__(self, options: Sequence[tuple[str, str]]) -> None:
        self._options = dict(options)
        self._known: list[str] = []

    @overload
    def text(self, name: str) -> str: ...
    @overload
    def text(self, name: str, default: T) -> str | T: ...
    def text(self, name: str, default: Any = _REQUIRED) -> Any:
        """An option as it is."""
        return self._read(name, default, str)

    @overload
    def int(self, name: str) -> builtins.int: ...
    @overload
    def int(self, name: str, default: T) -> builtins.int | T: ...
    def int(self, name: str, default: Any = _REQUIRED) -> Any:
        """An option as an integer."""
        return self._read(name, default, _integer)

    @overload
    def float(self, name: str) -> builtins.float: ...
    @overload
    def float(self, name: str, default: T) -> builtins.float | T: ...
    def float(self, name: str, default: Any = _REQUIRED) -> Any:
        """An option as a number."""
        return self._read(name, default, builtins.float)

    @overload
    def bool(self, name: str) -> builtins.bool: ...
    @overload
    def bool(self, name: str, default: T) -> builtins.bool | T: ...
    def bool(self, name: str, default: Any = _REQUIRED) -> Any:
        """An option that is `true` or `false`."""
        return self._read(name, default, _boolean)

    def __contains__(self, name: str) -> builtins.bool:
        self._knows(name)
        return name in self._options

    def _knows(self, name: str) -> None:
        if name not in self._known:
            self._known.append(name)

    def _read(self, name: str, default: Any, read: Callable[[str], Any]) -> Any:
        self._knows(name)
        text = self._options.get(name)
        if text is None:
            if default is _REQUIRED:
                raise Error(f"option `{name}` is missing; set it")
            return default
        try:
            return read(text)
        except ValueError as error:
            raise Error(f"option `{name}` is `{text}`: {error}") from None

    def _refuse_unknown(self) -> None:
        for name in self._options:
            if name not in self._known:
                known = f"knows `{'`, `'.join(self._known)}`" if self._known else "has none"
                raise Error(f"unknown option `{name}`; this operator {known}")


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError("not an integer")
    return int(text)


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("neither `true` nor `false`")
    return text == "true"
