/**
 * How a typed state becomes bytes: the same bytes in each language that has an SDK, so that a plugin in one language takes over
 * the state of another. Numbers are those of postcard: LEB128, signed ones in zigzag.
 *
 * JavaScript counts exactly up to 2⁵³ only, so `u64` and `i64` are of type `bigint`. `uint` and `int` are the same bytes as
 * plain numbers, much faster, and refuse what is not exact. There are no structures: `json` writes those as JSON.
 */

import { Bytes, binaryOf, readable, textIfUtf8, utf8 } from "./bytes.js";
import { signedColumns, unsignedColumns } from "./varints.js";

/** A way to write values of type `T` as bytes. Equal values have equal bytes, or replay would not be exact. */
export interface Codec<T> {
  readonly name: string;
  /** Appends a value, or throws if it is not of this type. */
  encode(value: T, into: Bytes): void;
  /**
   * What decoding the encoding of a value gives, or throws if it has none. Only a codec has it whose values cannot change; those
   * of the others are encoded when they are given, and decoded at each read.
   */
  readonly normal?: (value: T) => T;
  /** Whole numbers from 1 to this one, below 2³¹, are normal, so that `normal` need not be asked. */
  readonly plainMax?: number;
  /**
   * Puts the values of a column where they belong in `cells`. It may leave out any of them, and leaves out those that it cannot
   * read and those without bytes.
   */
  decodeAll?(bytes: Uint8Array, ends: ArrayLike<number>, cells: unknown[]): void;
  /** Appends normal values and says where each ends, or gives up half-way. A missing value is among those that it gives up on. */
  encodeAll?(values: readonly (T | undefined)[], into: Bytes, ends: Uint32Array): boolean;
  /** Reads the value that takes up all of `bytes[start..end]`. It refers to nothing of `bytes`, which others read too. */
  decode(bytes: Uint8Array, start: number, end: number): T;
  /** The value of `bytes[start..end]` as JSON text, for tools. */
  toJson(bytes: Uint8Array, start: number, end: number): string;
  /** Appends the value of a JSON text. */
  fromJson(json: string, into: Bytes): void;
}

/** A codec whose type can be the sub-key of a map, since it also has bytes that sort as the values do. */
export interface SubKeyCodec<T> extends Codec<T> {
  /** How many bytes each sub-key has, if that is always the same. */
  readonly keyBytes: number | undefined;
  encodeKey(value: T, into: Bytes): void;
  decodeKey(bytes: Uint8Array, start: number, end: number): T;
  keyToJson(value: T): string;
  keyFromJson(json: string): T;
}

/** A codec of sub-keys that all have the same length, so that something can follow. */
export interface FixedSubKeyCodec<T> extends SubKeyCodec<T> {
  readonly keyBytes: number;
}

const ENDS_EARLY = "it ends within a number";
const NUMBER_MAX = Number.MAX_SAFE_INTEGER;

function refuse(name: string, value: unknown, why: string): never {
  throw new RangeError(`${shown(value)} is not a valid \`${name}\`: ${why}`);
}

function shown(value: unknown): string {
  if (typeof value === "object" && value !== null) {
    return Array.isArray(value) ? "an array" : "an object";
  }
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** Appends a number from 0 to 2⁵³ - 1 as LEB128. */
function putVarint(value: number, into: Bytes): void {
  const array = into.room(10);
  let at = into.length;
  while (value > 0x7fffffff) {
    const high = Math.floor(value / 128);
    array[at++] = value - high * 128 + 128;
    value = high;
  }
  while (value > 127) {
    array[at++] = (value & 127) | 128;
    value >>>= 7;
  }
  array[at++] = value;
  into.length = at;
}

function putBigVarint(value: bigint, into: Bytes): void {
  if (value <= 0x1fffffffffffffn) {
    putVarint(Number(value), into);
    return;
  }
  into.put(Number(value & 127n) | 128);
  putBigVarint(value >> 7n, into);
}

/** Where the number that starts at `start` has its last byte. */
function lastOfVarint(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at]! > 127) {
    at++;
  }
  if (at >= end) {
    throw new RangeError(ENDS_EARLY);
  }
  return at;
}

/** Reads LEB128 that takes up all bytes; what is above 2⁵³ - 1 is not exact. */
function varint(bytes: Uint8Array, start: number, end: number): number {
  if (end - start === 1) {
    const only = bytes[start]!;
    if (only < 128) {
      return only;
    }
  }
  const last = lastOfVarint(bytes, start, end);
  if (last + 1 !== end) {
    throw new RangeError(`${end - last - 1} bytes are left over`);
  }
  if (last - start > 9) {
    throw new RangeError("a number has more than 64 bits");
  }
  let value = 0;
  for (let at = last; at >= start; at--) {
    value = value * 128 + (bytes[at]! & 127);
  }
  return value;
}

function bigVarint(bytes: Uint8Array, start: number, end: number): bigint {
  const rough = varint(bytes, start, end);
  if (rough <= NUMBER_MAX) {
    return BigInt(rough);
  }
  let value = 0n;
  for (let at = end - 1; at >= start; at--) {
    value = (value << 7n) | BigInt(bytes[at]! & 127);
  }
  if (value > 0xffffffffffffffffn) {
    throw new RangeError("a number has more than 64 bits");
  }
  return value;
}

/** The digits of a JSON text that is a whole number. */
function digits(name: string, json: string): string {
  const text = json.trim();
  if (!/^-?(0|[1-9][0-9]*)$/.test(text)) {
    throw new RangeError(`\`${text}\` is not a valid \`${name}\`: it is not a whole number`);
  }
  return text;
}

function keyLength(name: string, bytes: number, expected: number): void {
  if (bytes !== expected) {
    throw new RangeError(`a sub-key, or what is left of one, has ${bytes} bytes instead of the ${expected} of \`${name}\``);
  }
}

/** Integers of up to 32 bits, and those of 64 as far as they are exact. */
function small(name: string, bits: number, isSigned: boolean): FixedSubKeyCodec<number> {
  const min = !isSigned ? 0 : bits === 64 ? -NUMBER_MAX : -(2 ** (bits - 1));
  const max = bits === 64 ? NUMBER_MAX : 2 ** (isSigned ? bits - 1 : bits) - 1;
  const keyBytes = bits / 8;
  const check = (value: number): number =>
    Number.isInteger(value) && value >= min && value <= max
      ? value
      : refuse(name, value, `whole numbers from ${min} to ${max} are`);
  const decodeByte = (bytes: Uint8Array, start: number, end: number): number => {
    if (end - start !== 1) {
      throw new RangeError(end === start ? ENDS_EARLY : `${end - start - 1} bytes are left over`);
    }
    const byte = bytes[start]!;
    return isSigned ? (byte << 24) >> 24 : byte;
  };
  const decode = (bytes: Uint8Array, start: number, end: number): number => {
    // Most counts are this short.
    if (!isSigned && bits !== 8) {
      const low = bytes[start]!;
      if (end - start === 1 && low < 128) {
        return low;
      }
      if (end - start === 2 && low > 127 && bytes[start + 1]! < 128) {
        return low - 128 + bytes[start + 1]! * 128;
      }
    }
    if (bits === 8) {
      return decodeByte(bytes, start, end);
    }
    const value = varint(bytes, start, end);
    if (!isSigned) {
      return value > max ? check(value) : value;
    }
    if (value > NUMBER_MAX) {
      const exact = zigzagOf(bigVarint(bytes, start, end));
      return exact < min || exact > max
        ? refuse(name, exact, `whole numbers from ${min} to ${max} are`)
        : Number(exact);
    }
    return check(value % 2 === 0 ? value / 2 : -(value + 1) / 2);
  };
  const encode = (value: number, into: Bytes): void => {
    if (!isSigned && value >= 0 && value < 16384 && (value | 0) === value && bits !== 8) {
      const array = into.array;
      let at = into.length;
      if (at + 2 <= array.length) {
        if (value > 127) {
          array[at++] = (value & 127) | 128;
          value >>= 7;
        }
        array[at] = value;
        into.length = at + 1;
        return;
      }
    }
    check(value);
    if (bits === 8) {
      into.put(value & 255);
    } else if (!isSigned) {
      putVarint(value, into);
    } else {
      const zigzag = value >= 0 ? value * 2 : -value * 2 - 1;
      if (zigzag <= NUMBER_MAX) {
        putVarint(zigzag, into);
      } else {
        putBigVarint(value >= 0 ? BigInt(value) * 2n : -BigInt(value) * 2n - 1n, into);
      }
    }
  };
  const fromDigits = (json: string): number => check(Number(digits(name, json)));
  return {
    name,
    // There is no -0 among whole numbers.
    normal: (value) => check(value) + 0,
    plainMax: Math.min(max, 0x7fffffff),
    encode,
    decode,
    ...(bits === 8 ? {} : isSigned ? signedColumns : unsignedColumns),
    toJson: (bytes, start, end) => String(decode(bytes, start, end)),
    fromJson: (json, into) => encode(fromDigits(json), into),
    keyBytes,
    encodeKey(value, into) {
      let rest = BigInt.asUintN(bits, BigInt(check(value)) + (isSigned ? 1n << BigInt(bits - 1) : 0n));
      const array = into.room(keyBytes);
      for (let index = keyBytes - 1; index >= 0; index--) {
        array[into.length + index] = Number(rest & 255n);
        rest >>= 8n;
      }
      into.length += keyBytes;
    },
    decodeKey(bytes, start, end) {
      keyLength(name, end - start, keyBytes);
      let value = 0n;
      for (let at = start; at < end; at++) {
        value = (value << 8n) | BigInt(bytes[at]!);
      }
      return check(Number(value - (isSigned ? 1n << BigInt(bits - 1) : 0n)));
    },
    keyToJson: String,
    keyFromJson: fromDigits,
  };
}

function zigzagOf(value: bigint): bigint {
  return (value & 1n) === 0n ? value >> 1n : -((value + 1n) >> 1n);
}

function big(name: string, isSigned: boolean): FixedSubKeyCodec<bigint> {
  const min = isSigned ? -(1n << 63n) : 0n;
  const max = isSigned ? (1n << 63n) - 1n : (1n << 64n) - 1n;
  const check = (value: bigint): bigint =>
    typeof value === "bigint" && value >= min && value <= max
      ? value
      : refuse(name, value, `\`bigint\`s from ${min} to ${max} are, such as 1n`);
  const decode = (bytes: Uint8Array, start: number, end: number): bigint => {
    const value = bigVarint(bytes, start, end);
    return isSigned ? zigzagOf(value) : value;
  };
  const encode = (value: bigint, into: Bytes): void => {
    check(value);
    putBigVarint(!isSigned ? value : value >= 0n ? value << 1n : (-value << 1n) - 1n, into);
  };
  const flip = isSigned ? 1n << 63n : 0n;
  return {
    name,
    normal: check,
    encode,
    decode,
    toJson: (bytes, start, end) => String(decode(bytes, start, end)),
    fromJson: (json, into) => encode(BigInt(digits(name, json)), into),
    keyBytes: 8,
    encodeKey(value, into) {
      let rest = check(value) + flip;
      const array = into.room(8);
      for (let index = 7; index >= 0; index--) {
        array[into.length + index] = Number(rest & 255n);
        rest >>= 8n;
      }
      into.length += 8;
    },
    decodeKey(bytes, start, end) {
      keyLength(name, end - start, 8);
      let value = 0n;
      for (let at = start; at < end; at++) {
        value = (value << 8n) | BigInt(bytes[at]!);
      }
      return value - flip;
    },
    keyToJson: String,
    keyFromJson: (json) => check(BigInt(digits(name, json))),
  };
}

export const u8 = small("u8", 8, false);
export const u16 = small("u16", 16, false);
export const u32 = small("u32", 32, false);
export const i8 = small("i8", 8, true);
export const i16 = small("i16", 16, true);
export const i32 = small("i32", 32, true);
/** The bytes of `u64`, as numbers: fast, and an error above 2⁵³ - 1. */
export const uint = small("uint", 64, false);
/** The bytes of `i64`, as numbers: fast, and an error beyond ±(2⁵³ - 1). */
export const int = small("int", 64, true);
export const u64 = big("u64", false);
export const i64 = big("i64", true);

const one = (bytes: Uint8Array, start: number, end: number): boolean => {
  const byte = end - start === 1 ? bytes[start]! : 2;
  return byte < 2 ? byte === 1 : refuse("bool", readable(bytes.subarray(start, end)), "one byte, 0 or 1, is");
};
const truth = (json: string): boolean => {
  const value: unknown = JSON.parse(json);
  return typeof value === "boolean" ? value : refuse("bool", json, "true and false are");
};
const checkTruth = (value: boolean): boolean =>
  typeof value === "boolean" ? value : refuse("bool", value, "true and false are");
const putTruth = (value: boolean, into: Bytes): void => into.put(checkTruth(value) ? 1 : 0);

export const bool: FixedSubKeyCodec<boolean> = {
  name: "bool",
  normal: checkTruth,
  encode: putTruth,
  decode: one,
  toJson: (bytes, start, end) => String(one(bytes, start, end)),
  fromJson: (json, into) => putTruth(truth(json), into),
  keyBytes: 1,
  encodeKey: putTruth,
  decodeKey: one,
  keyToJson: String,
  keyFromJson: truth,
};

const checkNumber = (value: number): number => (typeof value === "number" ? value : refuse("f64", value, "numbers are"));
const scratch = new DataView(new ArrayBuffer(8));

export const f64: Codec<number> = {
  name: "f64",
  normal: checkNumber,
  encode(value, into) {
    scratch.setFloat64(0, checkNumber(value), true);
    into.append(new Uint8Array(scratch.buffer));
  },
  decode(bytes, start, end) {
    if (end - start !== 8) {
      throw new RangeError(`${end - start} bytes are no \`f64\`, which has 8`);
    }
    return new DataView(bytes.buffer, bytes.byteOffset + start, 8).getFloat64(0, true);
  },
  toJson(bytes, start, end) {
    const value = this.decode(bytes, start, end);
    // A number that JSON does not have shows as `null`; a whole one keeps its point, so that it reads as what it is.
    return Number.isInteger(value) && Math.abs(value) < 1e16
      ? `${Object.is(value, -0) ? "-0" : value}.0`
      : JSON.stringify(value);
  },
  fromJson(json, into) {
    const value: unknown = JSON.parse(json);
    this.encode(typeof value === "number" ? value : refuse("f64", json, "numbers are"), into);
  },
};

function textOf(bytes: Uint8Array, start: number, end: number): string {
  const text = textIfUtf8(bytes, start, end);
  if (text === undefined) {
    throw new RangeError(`\`${readable(bytes.subarray(start, end))}\` is not UTF-8`);
  }
  return text;
}

const jsonText = (json: string): string => {
  const value: unknown = JSON.parse(json);
  return typeof value === "string" ? value : refuse("text", json, "it is not text");
};

const SURROGATE = /[\ud800-\udfff]/;

const checkText = (value: string): string => {
  if (typeof value !== "string") {
    refuse("text", value, "strings are");
  }
  if (SURROGATE.test(value)) {
    utf8(value);
  }
  return value;
};

/** Text: its length and its UTF-8; as a sub-key, the UTF-8 alone. */
export const text: SubKeyCodec<string> = {
  name: "text",
  normal: checkText,
  encode(value, into) {
    if (typeof value !== "string") {
      refuse("text", value, "strings are");
    }
    const start = into.length;
    putVarint(value.length, into);
    const from = into.length;
    into.appendText(value);
    if (into.length - from !== value.length) {
      const encoded = into.array.slice(from, into.length);
      into.length = start;
      putVarint(encoded.length, into);
      into.append(encoded);
    }
  },
  decode(bytes, start, end) {
    const from = lastOfVarint(bytes, start, end) + 1;
    const length = varint(bytes, start, from);
    if (end - from !== length) {
      throw new RangeError(`a text of ${length} bytes has ${end - from}`);
    }
    return textOf(bytes, from, end);
  },
  toJson(bytes, start, end) {
    return JSON.stringify(this.decode(bytes, start, end));
  },
  fromJson(json, into) {
    this.encode(jsonText(json), into);
  },
  keyBytes: undefined,
  encodeKey(value, into) {
    if (typeof value !== "string") {
      refuse("text", value, "strings are");
    }
    into.appendText(value);
  },
  decodeKey: textOf,
  keyToJson: (value) => JSON.stringify(value),
  keyFromJson: jsonText,
};

const checkUnit = (value: null): null => (value === null ? null : refuse("unit", value, "null is"));

/** Nothing but that it is there: the value is `null`. */
export const unit: Codec<null> = {
  name: "unit",
  normal: checkUnit,
  encode: (value) => void checkUnit(value),
  decode(_, start, end) {
    return start === end ? null : refuse("unit", `${end - start} bytes`, "it has none");
  },
  toJson(bytes, start, end) {
    this.decode(bytes, start, end);
    return "null";
  },
  fromJson(json) {
    if (JSON.parse(json) !== null) {
      refuse("unit", json, "null is");
    }
  },
};

/** Bytes as JSON: text where they are some, `{"hex": ".."}` where not. */
export function bytesToJson(bytes: Uint8Array): string {
  const asText = textIfUtf8(bytes);
  if (asText !== undefined) {
    return JSON.stringify(asText);
  }
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"));
  return `{"hex":"${hex.join("")}"}`;
}

export function bytesFromJson(json: string): Uint8Array {
  const value: unknown = JSON.parse(json);
  if (typeof value === "string") {
    return utf8(value);
  }
  const hex: unknown = value === null ? undefined : (value as { hex?: unknown }).hex;
  if (typeof hex !== "string" || !/^([0-9a-fA-F]{2})*$/.test(hex)) {
    throw new RangeError(`\`${json}\` is neither text nor {"hex": ".."}`);
  }
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

const putRaw = (value: Uint8Array, into: Bytes): void =>
  into.append(value instanceof Uint8Array ? value : refuse("raw", value, "`Uint8Array`s are"));

/** Bytes as they are. */
export const raw: SubKeyCodec<Uint8Array> = {
  name: "raw",
  encode: putRaw,
  decode: (bytes, start, end) => bytes.slice(start, end),
  toJson: (bytes, start, end) => bytesToJson(bytes.subarray(start, end)),
  fromJson: (json, into) => into.append(bytesFromJson(json)),
  keyBytes: undefined,
  encodeKey: putRaw,
  decodeKey: (bytes, start, end) => bytes.slice(start, end),
  keyToJson: bytesToJson,
  keyFromJson: bytesFromJson,
};

/** Everything else, as compact JSON. Numbers in it are exact up to 2⁵³. */
export function json<T>(): Codec<T> {
  const put = (value: unknown, into: Bytes): void => {
    const written: string | undefined = JSON.stringify(value);
    if (written === undefined) {
      throw new RangeError(`${shown(value)} has no JSON`);
    }
    into.appendText(written);
  };
  return {
    name: "json",
    encode: put,
    decode: (bytes, start, end) => JSON.parse(textOf(bytes, start, end)) as T,
    toJson(bytes, start, end) {
      const written = textOf(bytes, start, end);
      JSON.parse(written);
      return written;
    },
    fromJson: (written, into) => put(JSON.parse(written), into),
  };
}

type Parts<T extends readonly unknown[]> = { readonly [I in keyof T]: SubKeyCodec<T[I]> };

/**
 * A sub-key of several parts, sorted by the first one first. All but the last have a fixed length: they are integers or `bool`.
 */
export function tuple<T extends readonly unknown[]>(...parts: Parts<T>): SubKeyCodec<T> {
  const all: readonly SubKeyCodec<unknown>[] = parts as Parts<readonly unknown[]>;
  const name = `tuple(${all.map((part) => part.name).join(", ")})`;
  const last = all.length - 1;
  const loose = all.findIndex((part, index) => index < last && part.keyBytes === undefined);
  if (all.length < 2 || loose >= 0) {
    throw new TypeError(`\`${name}\` is not a sub-key: it has two or more parts, and all but the last are integers or \`bool\``);
  }
  const none = (): never => {
    throw new TypeError(`\`${name}\` is for sub-keys; use \`json()\` for values`);
  };
  const lengths = all.map((part) => part.keyBytes ?? NaN);
  const total = lengths.reduce((sum, length) => sum + length);
  return {
    name,
    encode: none,
    decode: none,
    toJson: none,
    fromJson: none,
    keyBytes: Number.isNaN(total) ? undefined : total,
    encodeKey(value, into) {
      if (!Array.isArray(value) || value.length !== all.length) {
        refuse(name, value, `arrays of ${all.length} are`);
      }
      all.forEach((part, index) => part.encodeKey(value[index], into));
    },
    decodeKey(bytes, start, end) {
      let at = start;
      const value = all.map((part, index) => {
        const from = at;
        at = index === last ? end : Math.min(end, at + lengths[index]!);
        return part.decodeKey(bytes, from, at);
      });
      return value as unknown as T;
    },
    keyToJson: (value) => `[${all.map((part, index) => part.keyToJson(value[index])).join(",")}]`,
    keyFromJson(written) {
      // Numbers above 2^53 have to stay as they are written, so the text is split. Only the last part can have commas.
      const value: unknown = JSON.parse(written);
      if (!Array.isArray(value) || value.length !== all.length) {
        return refuse(name, written, `arrays of ${all.length} are`);
      }
      const texts = written.trim().slice(1, -1).split(",");
      const rest = texts.splice(last).join(",");
      return [...texts, rest].map((part, index) => all[index]!.keyFromJson(part)) as unknown as T;
    },
  };
}

/** A sub-key as a binary string. */
export function keyOf<K>(codec: SubKeyCodec<K>, subKey: K, into: Bytes): string {
  into.length = 0;
  codec.encodeKey(subKey, into);
  return binaryOf(into.array, 0, into.length);
}
