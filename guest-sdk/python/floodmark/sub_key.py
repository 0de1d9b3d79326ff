"""Sub-keys of a map as bytes whose order is that of the values.

The host orders entries by these bytes and knows nothing else of them. Integers are big-endian with the sign bit inverted,
text and bytes are as they are; in a tuple all but the last have a fixed length, so none needs an end.
"""

from typing import Any, Generic, TypeVar

from .error import Error, readable

K = TypeVar("K")


class SubKey(Generic[K]):
    """A type of sub-keys."""

    name = "a sub-key"
    #: How many bytes each has, if that is fixed.
    size: int | None = None

    def encode(self, value: K) -> bytes:
        """The bytes of a sub-key."""
        raise NotImplementedError

    def decode(self, data: bytes) -> K:
        """The sub-key of bytes."""
        raise NotImplementedError

    def to_value(self, data: bytes) -> Any:
        """What a sub-key is in JSON, for tools."""
        return self.decode(data)

    def from_value(self, value: Any) -> bytes:
        """The bytes of what JSON says, for tools."""
        return self.encode(value)


class _Integer(SubKey[int]):
    def __init__(self, bits: int, *, signed: bool) -> None:
        self.name = f"{'i' if signed else 'u'}{bits}"
        self.size: int = bits // 8
        self._offset = 1 << (bits - 1) if signed else 0
        self._end = 1 << bits

    def encode(self, value: int) -> bytes:
        if type(value) is not int or not 0 <= value + self._offset < self._end:
            raise Error(f"`{value!r}` is not a sub-key of the type {self.name}")
        return (value + self._offset).to_bytes(self.size, "big")

    def decode(self, data: bytes) -> int:
        if len(data) != self.size:
            raise _wrong_length(data, self.size)
        return int.from_bytes(data, "big") - self._offset


class _Boolean(SubKey[bool]):
    name = "bool"
    size = 1

    def encode(self, value: bool) -> bytes:
        if type(value) is not bool:
            raise Error(f"`{value!r}` is neither `True` nor `False`, which sub-keys are")
        return b"\1" if value else b"\0"

    def decode(self, data: bytes) -> bool:
        if data not in (b"\0", b"\1"):
            raise Error("a sub-key is neither true nor false")
        return data == b"\1"


class _Text(SubKey[str]):
    name = "text"

    def encode(self, value: str) -> bytes:
        if type(value) is not str:
            raise Error(f"`{value!r}` is not text, which sub-keys are")
        return value.encode()

    def decode(self, data: bytes) -> str:
        return data.decode()


class _Raw(SubKey[bytes]):
    name = "bytes"

    def encode(self, value: bytes) -> bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise Error(f"`{value!r}` is not bytes, which sub-keys are")
        return bytes(value)

    def decode(self, data: bytes) -> bytes:
        return data

    def to_value(self, data: bytes) -> Any:
        try:
            return data.decode()
        except UnicodeDecodeError:
            return {"hex": data.hex()}

    def from_value(self, value: Any) -> bytes:
        if isinstance(value, str):
            return value.encode()
        try:
            # Python would skip spaces.
            digits: str = value["hex"]
            if digits.isalnum() or digits == "":
                return bytes.fromhex(digits)
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
        raise Error(f'`{value!r}` is neither text nor {{"hex": ".."}}')


class _Tuple(SubKey[tuple[Any, ...]]):
    def __init__(self, parts: tuple[SubKey[Any], ...]) -> None:
        for part in parts[:-1]:
            if part.size is None:
                raise TypeError(f"`{part.name}` can only come last in a sub-key, since it has no fixed length")
        self.name = f"({', '.join(part.name for part in parts)})"
        self._parts = parts
        last = parts[-1].size
        self.size = None if last is None else last + sum(part.size or 0 for part in parts[:-1])

    def encode(self, value: tuple[Any, ...]) -> bytes:
        if not isinstance(value, tuple | list) or len(value) != len(self._parts):
            raise Error(f"`{value!r}` is not a sub-key of the type {self.name}")
        return b"".join([part.encode(item) for part, item in zip(self._parts, value, strict=True)])

    def decode(self, data: bytes) -> tuple[Any, ...]:
        return tuple(part.decode(item) for part, item in zip(self._parts, self._split(data), strict=True))

    def to_value(self, data: bytes) -> Any:
        return [part.to_value(item) for part, item in zip(self._parts, self._split(data), strict=True)]

    def from_value(self, value: Any) -> bytes:
        if not isinstance(value, list) or len(value) != len(self._parts):
            raise Error(f"`{value!r}` is not an array of {len(self._parts)}")
        return b"".join([part.from_value(item) for part, item in zip(self._parts, value, strict=True)])

    def _split(self, data: bytes) -> list[bytes]:
        items, rest = [], data
        for part in self._parts[:-1]:
            size = part.size or 0
            if len(rest) < size:
                raise _wrong_length(rest, size)
            items.append(rest[:size])
            rest = rest[size:]
        return [*items, rest]


def _wrong_length(data: bytes, expected: int) -> Error:
    return Error(
        f"a sub-key, or what is left of one, `{readable(data)}`, has {len(data)} bytes instead of {expected}"
    )


u8 = _Integer(8, signed=False)
u16 = _Integer(16, signed=False)
u32 = _Integer(32, signed=False)
u64 = _Integer(64, signed=False)
i8 = _Integer(8, signed=True)
i16 = _Integer(16, signed=True)
i32 = _Integer(32, signed=True)
i64 = _Integer(64, signed=True)
boolean = _Boolean()
text = _Text()
raw = _Raw()

_BY_TYPE: dict[object, SubKey[Any]] = {int: u64, bool: boolean, str: text, bytes: raw}


def sub_key_of(said: object) -> SubKey[Any]:
    """The type of sub-keys that a declaration means."""
    if isinstance(said, SubKey):
        return said
    if isinstance(said, tuple) and said:
        return _Tuple(tuple(sub_key_of(part) for part in said))
    of_encoding = getattr(said, "sub_key", None)
    if isinstance(of_encoding, SubKey):
        return of_encoding
    found = _BY_TYPE.get(said) if isinstance(said, type) else None
    if found is None:
        raise TypeError(
            f"`{said!r}` cannot be the sub-key of a map; use int, bool, str, bytes, an integer of floodmark, or a tuple of "
            "which all but the last are integers or bool"
        )
    return found
