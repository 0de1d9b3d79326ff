/**
 * Catches bytes that another language would not read, and numbers that lose digits on the way.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Bytes, binaryOf, bytesOfBinary, isAscii, textIfUtf8, utf8, utf8Length } from "../src/bytes.js";
import * as encoding from "../src/encoding.js";

type Kind = string | string[];
interface Vector {
  encoding?: string;
  type?: Kind;
  hex?: string;
  json?: string;
  value: unknown;
}

const vectors = JSON.parse(readFileSync("../encodings.json", "utf8")) as Record<string, Vector[]>;
const codecs = { ...encoding, json: encoding.json<unknown>(), bytes: encoding.raw } as unknown as Record<
  string,
  encoding.SubKeyCodec<unknown>
>;
const codecOf = (kind: Kind): encoding.SubKeyCodec<unknown> =>
  typeof kind === "string"
    ? codecs[kind]!
    : (encoding.tuple(...kind.map((part) => codecs[part]!)) as encoding.SubKeyCodec<unknown>);

const fromHex = (hex: string): Uint8Array => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const written = (put: (into: Bytes) => void): string => {
  const into = new Bytes();
  into.put(7);
  put(into);
  return toHex(into.copy()).slice(2);
};

/** A value of the vectors as this language has it. */
function valueOf(kind: Kind, value: unknown): unknown {
  if (Array.isArray(kind)) {
    return kind.map((part, index) => valueOf(part, (value as unknown[])[index]));
  }
  switch (kind) {
    case "u64":
    case "i64":
      return BigInt(value as string);
    case "raw":
    case "bytes":
      return fromHex(value as string);
    case "text":
    case "json":
    case "f64":
    case "bool":
    case "unit":
      return value;
    default:
      return Number(value);
  }
}

test("values are written as all languages write them", () => {
  for (const vector of vectors["values"]!) {
    const codec = codecOf(vector.encoding!);
    const [bytes, value] = [fromHex(vector.hex!), valueOf(vector.encoding!, vector.value)];
    assert.equal(
      written((into) => codec.encode(value, into)),
      vector.hex,
      JSON.stringify(vector),
    );
    assert.deepEqual(codec.decode(bytes, 0, bytes.length), value, JSON.stringify(vector));
    const json = codec.toJson(bytes, 0, bytes.length);
    if (vector.encoding === "f64") {
      assert.equal(Object.is(JSON.parse(json), JSON.parse(vector.json!)), true, json);
    } else {
      assert.equal(json, vector.json);
    }
    assert.equal(
      written((into) => codec.fromJson(vector.json!, into)),
      vector.hex,
    );
  }
});

test("what is not a value is refused", () => {
  for (const { encoding: name, hex, json } of vectors["refused"]!) {
    const codec = codecOf(name!);
    if (hex !== undefined) {
      const bytes = fromHex(hex);
      assert.throws(() => codec.decode(bytes, 0, bytes.length), `${name} ${hex}`);
      assert.throws(() => codec.toJson(bytes, 0, bytes.length), `${name} ${hex}`);
    } else {
      assert.throws(() => codec.fromJson(json!, new Bytes()), `${name} ${json}`);
    }
  }
});

test("sub-keys are written as all languages write them", () => {
  for (const vector of vectors["sub-keys"]!) {
    const codec = codecOf(vector.type!);
    const [bytes, value] = [fromHex(vector.hex!), valueOf(vector.type!, vector.value)];
    assert.equal(
      written((into) => codec.encodeKey(value, into)),
      vector.hex,
      JSON.stringify(vector),
    );
    assert.deepEqual(codec.decodeKey(bytes, 0, bytes.length), value);
    assert.equal(codec.keyToJson(value), vector.json);
    assert.deepEqual(codec.keyFromJson(vector.json!), value);
  }
});

test("what is not a sub-key is refused", () => {
  for (const { type, hex, json } of vectors["refused-sub-keys"]!) {
    const codec = codecOf(type!);
    if (hex !== undefined) {
      const bytes = fromHex(hex);
      assert.throws(() => codec.decodeKey(bytes, 0, bytes.length), `${String(type)} ${hex}`);
    } else {
      assert.throws(() => codec.keyFromJson(json!), `${String(type)} ${json}`);
    }
  }
});

test("plain numbers have the bytes of `u64` and `i64` as far as they are exact", () => {
  const max = Number.MAX_SAFE_INTEGER;
  for (let power = 0; power < 53; power++) {
    for (const number of [2 ** power - 1, 2 ** power, 2 ** power + 1, max].filter((number) => number <= max)) {
      const big = BigInt(number);
      const bytes = written((into) => encoding.u64.encode(big, into));
      assert.equal(
        written((into) => encoding.uint.encode(number, into)),
        bytes,
      );
      assert.equal(encoding.uint.decode(fromHex(bytes), 0, bytes.length / 2), number);
      for (const signed of [number, -number]) {
        const zigzag = written((into) => encoding.i64.encode(BigInt(signed), into));
        assert.equal(
          written((into) => encoding.int.encode(signed, into)),
          zigzag,
        );
        assert.equal(encoding.int.decode(fromHex(zigzag), 0, zigzag.length / 2), signed === 0 ? 0 : signed);
      }
    }
  }
  const above = fromHex(written((into) => encoding.u64.encode(2n ** 53n, into)));
  assert.throws(() => encoding.uint.decode(above, 0, above.length), /is not a valid `uint`/);
  assert.throws(() => encoding.uint.encode(2 ** 53, new Bytes()), /is not a valid `uint`/);
  assert.throws(() => encoding.uint.encode(0.5, new Bytes()), /is not a valid `uint`/);
  assert.throws(() => encoding.u64.encode(1 as unknown as bigint, new Bytes()), /`bigint`s/);
  assert.throws(() => encoding.tuple(encoding.text, encoding.u8), /all but the last/);
});

test("text goes through bytes and back", () => {
  for (const text of ["", "rain", "häuser 雨", "🌊", "a".repeat(20_000), "ä".repeat(20_000), "\0"]) {
    assert.deepEqual(utf8(text), new Uint8Array(Buffer.from(text)));
    assert.equal(textIfUtf8(utf8(text)), text);
    assert.equal(utf8Length(text), utf8(text).length);
  }
  for (const hex of ["ff", "c3", "c0af", "eda080", "f4908080", "80", "e28c"]) {
    assert.equal(textIfUtf8(fromHex(hex)), undefined, hex);
  }
  assert.throws(() => utf8("\ud800"), /half a pair/);
  const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  assert.deepEqual(bytesOfBinary(binaryOf(all)), all);
});

test("one byte above 127 is found wherever it is", () => {
  for (let start = 0; start < 5; start++) {
    for (let length = 0; length < 40; length++) {
      const bytes = new Uint8Array(64).fill(255).subarray(start, start + length).fill(127);
      assert.ok(isAscii(bytes), `${start} ${length}`);
      for (let at = 0; at < length; at++) {
        bytes[at] = 128;
        assert.ok(!isAscii(bytes), `${start} ${length} ${at}`);
        bytes[at] = 127;
      }
    }
  }
});

test("decimals read as numbers are written", () => {
  const numbers = [0, 7, 10, 99, 100, 12345, 2147483647, 2147483648, 2 ** 53, -1, -10, -2147483648, 1.5, 1e21];
  for (const number of numbers) {
    assert.equal(Buffer.from(fromHex(written((into) => into.appendDecimal(number)))).toString(), String(number));
  }
});
