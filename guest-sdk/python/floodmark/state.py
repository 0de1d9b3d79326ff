"""What is common to all kinds of states: how a class declares one, and how a call goes through it.

A state is declared as an attribute of an operator's class. Each operator gets a copy of its own in the place of the
declaration, which knows the record that is being processed. So an access costs one look-up, and no descriptor is asked.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

from .encoding import Encoding, Migration, encoding_of
from .error import Error
from .packed import PackedOptionalColumn, Writes
from .record import Record

T = TypeVar("T")

_UNITS_MS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", re.ASCII)
TTL_MS_MAX = 3_155_760_000_000
_NAME = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)


class State(Generic[T]):
    """A state of an operator; write `Value`, `List` or `Map`."""

    # The interpreter finds methods of an object without a dictionary of its own faster.
    __slots__ = ("_encoding", "_index", "_migrations", "_record", "name", "ttl_ms", "version")

    kind: ClassVar[int]

    def __init__(
        self,
        of: object,
        *,
        name: str | None,
        ttl: str | None,
        version: int,
        migrate: Mapping[int, Migration] | None,
    ) -> None:
        self._encoding: Encoding[T] = encoding_of(of)
        self.name = name or ""
        self.ttl_ms = None if ttl is None else _milliseconds(ttl)
        self.version = version
        self._migrations = {old: _migration(how, self._encoding) for old, how in (migrate or {}).items()}
        self._index = 0
        self._record: Record
        if not 0 < version < 1 << 32:
            raise ValueError(f"the version of a state is {version}; they start at 1")
        for old in self._migrations:
            if not 0 < old < version:
                raise ValueError(f"a state of version {version} cannot migrate from version {old}")

    def __set_name__(self, owner: type, name: str) -> None:
        if not self.name:
            self.name = name.strip("_").replace("_", "-").lower()
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"the name of state `{self.name}` is not 1 to 64 characters of `a-z`, `0-9` and `-`")

    def _bound(self, record: Record, index: int) -> Self:
        """A copy for one operator, which is the state at `index` of it."""
        bound = copy.copy(self)
        bound._record = record
        bound._index = index
        return bound

    def _load(self, current: PackedOptionalColumn, keys: int) -> None:
        """Takes over what comes with a call and forgets the call before."""
        raise NotImplementedError

    def _store(self, writes: Writes) -> None:
        """Hands back what changed since `_load`."""
        raise NotImplementedError

    def _encoded(self, value: T) -> bytes:
        """The bytes of a value that this state was given, taken at once: it may be changed in place later."""
        try:
            data = self._encoding.encode(value)
            if type(data) is bytes:
                return data
            if isinstance(data, bytes | bytearray | memoryview):
                return bytes(data)
            raise Error(f"it gave `{type(data).__name__}` instead of `bytes`")
        except MemoryError:
            raise
        except Exception as error:
            raise self._unencodable(error) from None

    def _unencodable(self, error: Exception) -> Error:
        return Error(f"cannot encode state `{self.name}` as {self._encoding.name}: {error}")

    def migrated(self, from_version: int, items: list[bytes]) -> list[bytes]:
        """Items of an older version in the current encoding."""
        if from_version not in self._migrations:
            known = ", ".join(str(old) for old in sorted(self._migrations)) or "none"
            raise Error(
                f"state `{self.name}` has version {self.version} and does not migrate from version {from_version} "
                f"(older versions it takes over: {known})"
            )
        encoding, migrate = self._migrations[from_version]
        return [self._encoded(migrate(encoding.decode(item))) for item in items]

    def sub_key(self) -> Any:
        """The type of its sub-keys, if it has some."""
        raise Error(f"state `{self.name}` has no sub-keys")


def _migration(how: Migration, current: Encoding[Any]) -> tuple[Encoding[Any], Any]:
    if isinstance(how, tuple):
        of, migrate = how
        return encoding_of(of), migrate
    return current, how


def _milliseconds(duration: str) -> int:
    matched = _DURATION.fullmatch(duration.strip()) if isinstance(duration, str) else None
    if matched is None or matched[2] not in _UNITS_MS:
        raise ValueError(
            f"`{duration}` is not a duration; write one such as `500ms`, `10s`, `5min`, `1h` or `30d`"
        )
    milliseconds = round(float(matched[1]) * _UNITS_MS[matched[2]])
    if not 1 <= milliseconds <= TTL_MS_MAX:
        raise ValueError(f"`{duration}` is not between 1ms and 36525d")
    return milliseconds
