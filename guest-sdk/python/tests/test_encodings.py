"""Catches an encoding that differs from that of the other languages, and one that takes what is none."""

import json
import math
import unittest
from pathlib import Path
from typing import Any

from floodmark import Error, encoding, packed, sub_key

VECTORS = json.loads((Path(__file__).parents[2] / "encodings.json").read_text())

ENCODINGS: dict[str, encoding.Encoding[Any]] = {
    "u64": encoding.u64,
    "i64": encoding.i64,
    "bool": encoding.boolean,
    "f64": encoding.f64,
    "text": encoding.text,
    "unit": encoding.unit,
    "raw": encoding.raw,
    "json": encoding.json,
}
SUB_KEYS: dict[str, Any] = {
    **{name: getattr(sub_key, name) for name in ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64")},
    "bool": sub_key.boolean,
    "text": sub_key.text,
    "bytes": sub_key.raw,
}


def meant(name: str, value: Any) -> Any:
    """The value that a vector means."""
    if name in ("raw", "bytes"):
        return bytes.fromhex(value)
    is_integer = name[0] in "ui" and name[1:].isdigit()
    return int(value) if is_integer else value


def by(name: str | list[str]) -> sub_key.SubKey[Any]:
    if isinstance(name, str):
        return sub_key.sub_key_of(SUB_KEYS[name])
    return sub_key.sub_key_of(tuple(SUB_KEYS[part] for part in name))


class Values(unittest.TestCase):
    def test_values_are_written_as_everywhere(self) -> None:
        for vector in VECTORS["values"]:
            with self.subTest(**vector):
                codec, data = ENCODINGS[vector["encoding"]], bytes.fromhex(vector["hex"])
                value = meant(vector["encoding"], vector["value"])
                self.assertEqual(codec.encode(value), data)
                self.assertEqual(codec.encode_all([value, value]), [data, data])
                self.assertEqual(codec.decode(data), value)
                self.assertEqual(codec.decode_all([data, data]), [value, value])
                self.check_columns(codec, [value, value], [data, data])
                self.assertEqual(json.loads(codec.to_json(data)), json.loads(vector["json"]))
                if vector["encoding"] != "f64":
                    self.assertEqual(codec.to_json(data), vector["json"])
                self.assertEqual(codec.from_json(vector["json"]), data)

    def check_columns(self, codec: encoding.Encoding[Any], values: list[Any], items: list[bytes]) -> None:
        column = codec._column_of(values)
        self.assertEqual(packed.packed_items_of(column), items)
        self.assertEqual(codec._values_of(packed.without_gaps(column)), values)

    def test_columns_of_integers_of_any_width(self) -> None:
        for values in ([0, 127], [128, 16383], [127, 128], [0, 128, 16384], [16384, 16385], [300, 1 << 63], [0, 0, 0, 16384]):
            self.check_columns(encoding.u64, values, [encoding.u64.encode(value) for value in values])

    def test_integers_of_two_bytes_that_are_none_are_refused(self) -> None:
        for wrong in (b"\x05\x02", b"\xff\x80", b"\x80\x80", b"\x00\x80"):
            with self.subTest(wrong=wrong), self.assertRaises(Error):
                encoding.u64._values_of(packed.without_gaps(packed.packed_column_of([b"\x80\x01", wrong])))

    def test_what_is_none_is_refused(self) -> None:
        for vector in VECTORS["refused"]:
            with self.subTest(**vector), self.assertRaises(Exception):
                codec = ENCODINGS[vector["encoding"]]
                if "hex" in vector:
                    codec._values_of(packed.without_gaps(packed.packed_column_of([bytes.fromhex(vector["hex"])])))
                else:
                    codec.from_json(vector["json"])

    def test_a_value_of_another_type_is_refused(self) -> None:
        wrong: list[tuple[encoding.Encoding[Any], Any]] = [
            (encoding.u64, -1),
            (encoding.u64, 1 << 64),
            (encoding.u64, True),
            (encoding.u64, 1.0),
            (encoding.i64, 1 << 63),
            (encoding.boolean, 1),
            (encoding.f64, "1"),
            (encoding.text, b"a"),
            (encoding.text, "\ud800"),
            (encoding.unit, 0),
            (encoding.raw, "a"),
            (encoding.json, math.nan),
            (encoding.json, object()),
        ]
        for codec, value in wrong:
            with self.subTest(codec=codec.name, value=value), self.assertRaises(Exception):
                codec.encode_all([value])

    def test_no_number_has_no_json(self) -> None:
        self.assertEqual(encoding.f64.to_json(encoding.f64.encode(math.inf)), "null")

    def test_varints_of_every_length(self) -> None:
        for bits in range(64):
            for value in (1 << bits, (1 << bits) - 1, (1 << bits) + 1):
                self.assertEqual(encoding.u64.decode(encoding.u64.encode(value)), value)


class SubKeys(unittest.TestCase):
    def test_sub_keys_are_written_as_everywhere(self) -> None:
        for vector in VECTORS["sub-keys"]:
            with self.subTest(**vector):
                kind, data = by(vector["type"]), bytes.fromhex(vector["hex"])
                value = vector["value"]
                if isinstance(vector["type"], list):
                    value = tuple(meant(*pair) for pair in zip(vector["type"], value, strict=True))
                else:
                    value = meant(vector["type"], value)
                self.assertEqual(kind.encode(value), data)
                self.assertEqual(kind.decode(data), value)
                self.assertEqual(encoding.dumped(kind.to_value(data)), vector["json"])
                self.assertEqual(kind.from_value(json.loads(vector["json"])), data)

    def test_what_is_none_is_refused(self) -> None:
        for vector in VECTORS["refused-sub-keys"]:
            with self.subTest(**vector), self.assertRaises(Exception):
                kind = by(vector["type"])
                if "hex" in vector:
                    kind.decode(bytes.fromhex(vector["hex"]))
                else:
                    kind.from_value(json.loads(vector["json"]))

    def test_what_has_no_length_comes_last(self) -> None:
        with self.assertRaisesRegex(TypeError, "can only come last"):
            sub_key.sub_key_of((str, int))


if __name__ == "__main__":
    unittest.main()
