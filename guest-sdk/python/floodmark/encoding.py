"""How a typed state becomes bytes: the same bytes in the SDKs of all languages (`guest-sdk/encodings.json`).

Numbers are written as postcard does, anything else as compact JSON. Values come and go many at once, so the encodings that
matter have loops of their own; a method call for each value would cost more than the value.
"""

import json as _json
import struct
from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

from .error import Error, readable
from .packed import PackedColumn, PackedOptionalColumn, even_ends, packed_column_of, packed_items_of, width_of
from .sub_key import SubKey
from .sub_key import boolean as _boolean_sub_key
from .sub_key import i64 as _i64_sub_key
from .sub_key import raw as _raw_sub_key
from .sub_key import text as _text_sub_key
from .sub_key import u64 as _u64_sub_key

T = TypeVar("T")

U64_END = 1 << 64
I64_MIN, I64_END = -(1 << 63), 1 << 63
U64_BYTES_MAX = 10
#: The interpreter compares integers of one digit of its own, which has 30 bits, without a call.
PLAIN_END = (1 << 30) - 1


class Encoding(Generic[T]):
    """A way to write values as bytes and to read them back.

    A subclass says `encode` and `decode`, and `to_json` and `from_json` for tools. Equal values must give equal bytes, or
    replay after a failure would not be exact.
    """

    name = "its encoding"
    #: How the type is written as the sub-key of a map, if it can be one.
    sub_key: SubKey[T] | None = None
    #: Whether a value may take no bytes at all.
    may_be_empty = True
    #: Whether no value can be changed in place. Only then a state keeps values themselves, and decodes others again at each read.
    _immutable = False
    #: Below this an `int` from 0 on is normal as it is.
    _plain_end = 0

    def encode(self, value: T) -> bytes:
        """The bytes of a value."""
        raise NotImplementedError

    def decode(self, data: bytes) -> T:
        """The value of bytes, all of which belong to it."""
        raise NotImplementedError

    def _normal(self, value: T) -> T:
        """What reading the bytes of a value would give, if the type is immutable. Fails as `encode` does."""
        raise NotImplementedError

    def encode_all(self, values: list[T]) -> list[bytes]:
        """The bytes of many values."""
        encode = self.encode
        return [encode(value) for value in values]

    def decode_all(self, items: list[bytes]) -> list[T]:
        """The values of many items."""
        decode = self.decode
        return [decode(item) for item in items]

    def _column_of(self, values: list[T]) -> PackedColumn:
        """The bytes of many normal values."""
        return packed_column_of(self.encode_all(values))

    def _values_of(self, column: PackedOptionalColumn) -> list[T]:
        """The values of a column without gaps."""
        return self.decode_all(packed_items_of(column))

    def to_json(self, data: bytes) -> str:
        """The JSON text of an encoded value, for tools."""
        return dumped(self.decode(data))

    def from_json(self, text: str) -> bytes:
        """The encoded value of a JSON text, for tools."""
        return self.encode(self.of_json(loaded(text)))

    def of_json(self, value: Any) -> T:
        """The value of what a JSON text says."""
        raise Error(f"{self.name} has no JSON")


def dumped(value: Any) -> str:
    """Compact JSON text."""
    return _json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def loaded(text: str | bytes) -> Any:
    """What a JSON text says."""
    if isinstance(text, bytes):
        text = text.decode()
    return _json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise Error(f"`{name}` is not JSON")


class _U64(Encoding[int]):
    name = "u64"
    sub_key = _u64_sub_key
    may_be_empty = False
    _immutable = True
    _plain_end = PLAIN_END

    def _normal(self, value: int) -> int:
        if type(value) is not int or not 0 <= value < U64_END:
            _refuse_u64(value)
        return value

    def encode(self, value: int) -> bytes:
        return _varint(self._normal(value))

    def decode(self, data: bytes) -> int:
        return data[0] if len(data) == 1 and data[0] < 128 else _of_varint(data)

    def encode_all(self, values: list[int]) -> list[bytes]:
        low, encode = _LOW, self.encode
        return [low[value] if type(value) is int and 0 <= value < LOW_END else encode(value) for value in values]

    def decode_all(self, items: list[bytes]) -> list[int]:
        any_length = _of_varint
        return [
            item[0] & 127 | item[1] << 7
            if len(item) == 2 and item[1] < 128 <= item[0]
            else item[0]
            if len(item) == 1 and item[0] < 128
            else any_length(item)
            for item in items
        ]

    def _column_of(self, values: list[int]) -> PackedColumn:
        # Small ones by one call for all.
        try:
            items = list(map(_LOW.__getitem__, values))
        except IndexError:
            return super()._column_of(values)
        data = b"".join(items)
        # Each has one or two bytes, so a mean without a rest is the width of all.
        width, rest = divmod(len(data), len(items))
        return packed_column_of(items) if rest else PackedColumn(even_ends(width, len(items)), data)

    def _values_of(self, column: PackedOptionalColumn) -> list[int]:
        width = width_of(column)
        if width == 1 and column.bytes.isascii():
            return list(column.bytes)
        if width == 2:
            numbers = memoryview(column.bytes).cast("H")
            values = list(map(_OF_TWO.__getitem__, numbers)) if max(numbers) < len(_OF_TWO) else [None]
            if None not in values:
                return values  # type: ignore[return-value]
        # Others, and what is none, one by one.
        return super()._values_of(column)

    def of_json(self, value: Any) -> int:
        if type(value) is not int or not 0 <= value < U64_END:
            raise Error(f"`{dumped(value)}` is not a valid u64")
        return value


class _I64(Encoding[int]):
    name = "i64"
    sub_key = _i64_sub_key
    may_be_empty = False
    _immutable = True
    _plain_end = PLAIN_END

    def _normal(self, value: int) -> int:
        if type(value) is not int or not I64_MIN <= value < I64_END:
            raise Error(f"`{value!r}` is not a valid i64: an `int` from -2**63 to 2**63 - 1")
        return value

    def encode(self, value: int) -> bytes:
        value = self._normal(value)
        return _varint(value << 1 if value >= 0 else ~(value << 1))

    def decode(self, data: bytes) -> int:
        zigzag = data[0] if len(data) == 1 and data[0] < 128 else _of_varint(data)
        return zigzag >> 1 if zigzag & 1 == 0 else ~(zigzag >> 1)

    def of_json(self, value: Any) -> int:
        if type(value) is not int or not I64_MIN <= value < I64_END:
            raise Error(f"`{dumped(value)}` is not a valid i64")
        return value


class _Boolean(Encoding[bool]):
    name = "bool"
    sub_key = _boolean_sub_key
    may_be_empty = False
    _immutable = True

    def _normal(self, value: bool) -> bool:
        if type(value) is not bool:
            raise Error(f"`{value!r}` is not a valid `bool`")
        return value

    def encode(self, value: bool) -> bytes:
        return b"\1" if self._normal(value) else b"\0"

    def decode(self, data: bytes) -> bool:
        if data not in (b"\0", b"\1"):
            raise Error(f"`{readable(data)}` is neither true nor false")
        return data == b"\1"

    def of_json(self, value: Any) -> bool:
        if type(value) is not bool:
            raise Error(f"`{dumped(value)}` is neither true nor false")
        return value


class _F64(Encoding[float]):
    name = "f64"
    may_be_empty = False
    _immutable = True

    def _normal(self, value: float) -> float:
        if type(value) is not float and type(value) is not int:
            raise Error(f"`{value!r}` is not a valid `float`")
        return float(value)

    def encode(self, value: float) -> bytes:
        return struct.pack("<d", self._normal(value))

    def decode(self, data: bytes) -> float:
        if len(data) != 8:
            raise Error(f"an f64 has 8 bytes, not {len(data)}")
        value: float = struct.unpack("<d", data)[0]
        return value

    def to_json(self, data: bytes) -> str:
        value = self.decode(data)
        return repr(value) if value - value == 0 else "null"

    def of_json(self, value: Any) -> float:
        if type(value) is not float and type(value) is not int:
            raise Error(f"`{dumped(value)}` is not a number")
        return float(value)


class _Text(Encoding[str]):
    name = "text"
    sub_key = _text_sub_key
    may_be_empty = False
    _immutable = True

    def _normal(self, value: str) -> str:
        if type(value) is not str:
            raise Error(f"`{value!r}` is not a valid `str`")
        if not value.isascii():
            # Half of a surrogate pair has no bytes.
            value.encode()
        return value

    def encode(self, value: str) -> bytes:
        if type(value) is not str:
            raise Error(f"`{value!r}` is not a valid `str`")
        data = value.encode()
        return _varint(len(data)) + data

    def decode(self, data: bytes) -> str:
        if data and data[0] == len(data) - 1 < 128:
            return data[1:].decode()
        at = 1
        while at < len(data) and data[at - 1] > 127:
            at += 1
        if _of_varint(data[:at]) != len(data) - at:
            raise Error(f"`{readable(data)}` is not text behind its length")
        return data[at:].decode()

    def of_json(self, value: Any) -> str:
        if type(value) is not str:
            raise Error(f"`{dumped(value)}` is not text")
        return value


class _Unit(Encoding[None]):
    name = "unit"
    _immutable = True

    def _normal(self, value: None) -> None:
        if value is not None:
            raise Error(f"`{value!r}` is not `None`")

    def encode(self, value: None) -> bytes:
        self._normal(value)
        return b""

    def decode(self, data: bytes) -> None:
        if data:
            raise Error(f"{len(data)} bytes are left over")

    def of_json(self, value: Any) -> None:
        if value is not None:
            raise Error(f"`{dumped(value)}` is not null")


class _Raw(Encoding[bytes]):
    name = "raw"
    sub_key = _raw_sub_key
    _immutable = True

    def _normal(self, value: bytes) -> bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise Error(f"`{value!r}` is not `bytes`")
        return bytes(value)

    def encode(self, value: bytes) -> bytes:
        return self._normal(value)

    def decode(self, data: bytes) -> bytes:
        return data

    def to_json(self, data: bytes) -> str:
        return dumped(_raw_sub_key.to_value(data))

    def of_json(self, value: Any) -> bytes:
        return _raw_sub_key.from_value(value)


class _Json(Encoding[Any]):
    name = "json"
    may_be_empty = False

    def encode(self, value: Any) -> bytes:
        return dumped(value).encode()

    def decode(self, data: bytes) -> Any:
        return loaded(data)

    def of_json(self, value: Any) -> Any:
        return value


def _refuse_u64(value: object) -> NoReturn:
    if type(value) is int and value < 0:
        raise Error(f"`{value}` is negative and the state is a u64; declare it with `i64` instead of `int`")
    raise Error(f"`{value!r}` is not a valid u64: an `int` from 0 to 2**64 - 1")


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last byte have the highest bit set."""
    if value < LOW_END:
        return _LOW[value]
    if value < 1 << 21:
        return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14))
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def _of_varint(data: bytes) -> int:
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
    if not data or len(data) > U64_BYTES_MAX or value >= U64_END:
        raise Error(f"`{data.hex()}` is not an integer of 64 bits")
    if data[-1] > 127 or (len(data) > 1 and min(data[:-1]) < 128):
        raise Error(f"`{data.hex()}` is not an integer, or more than one")
    return value


#: Integers of up to two bytes, ready to take. They are part of what each instance starts from.
LOW_END = 1 << 14
_LOW = [bytes((low,)) for low in range(128)]
_LOW += [bytes((low & 127 | 128, low >> 7)) for low in range(128, LOW_END)]
#: The integers of two bytes, by what these are as a number, the lower one first.
_OF_TWO: list[int | None] = [None] * (1 << 15)
for _low in range(128, LOW_END):
    _OF_TWO[_low & 127 | 128 | _low >> 7 << 8] = _low

#: Integers from 0 on, in as few bytes as they need. `int` means this one.
u64 = _U64()
#: Integers with a sign.
i64 = _I64()
boolean = _Boolean()
f64 = _F64()
text = _Text()
#: `None`: for states of which only the existence matters.
unit = _Unit()
#: Bytes as they are.
raw = _Raw()
#: Any value that JSON can express.
json = _Json()

_BY_TYPE: dict[object, Encoding[Any]] = {
    int: u64,
    bool: boolean,
    float: f64,
    str: text,
    bytes: raw,
    None: unit,
    type(None): unit,
    dict: json,
    list: json,
}


def encoding_of(said: object) -> Encoding[Any]:
    """The encoding that a declaration means: one of its own, or that of a type."""
    if isinstance(said, Encoding):
        return said
    try:
        return _BY_TYPE[said]
    except (KeyError, TypeError):
        shown = said.__name__ if isinstance(said, type) else repr(said)
        hint = "; import `json` from floodmark" if shown.startswith("<module 'json'") else ""
        raise TypeError(
            f"a state cannot keep `{shown}`; use int, bool, float, str, bytes, None, or u64, i64, json or another "
            f"encoding of floodmark{hint}"
        ) from None


Migration = Callable[[Any], Any] | tuple[object, Callable[[Any], Any]]
