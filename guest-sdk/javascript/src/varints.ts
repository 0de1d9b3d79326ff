/**
 * Columns of LEB128, read and written in one loop each, for numbers as most counts are. What is longer is left to the codec, which
 * takes numbers one by one and says what is wrong with them.
 */

import type { Bytes } from "./bytes.js";

/** Reads numbers of one or two bytes, as most counts are. */
function decodeUnsigned(bytes: Uint8Array, ends: ArrayLike<number>, cells: unknown[]): void {
  const count = ends.length;
  let start = 0;
  for (let index = 0; index < count; index++) {
    const end = ends[index]!;
    const low = bytes[start]!;
    if (end === start + 2) {
      const high = bytes[start + 1]!;
      if (low > 127 && high < 128) {
        cells[index] = low - 128 + high * 128;
      }
    } else if (end === start + 1 && low < 128) {
      cells[index] = low;
    }
    start = end;
  }
}

function decodeSigned(bytes: Uint8Array, ends: ArrayLike<number>, cells: unknown[]): void {
  decodeUnsigned(bytes, ends, cells);
  const count = ends.length;
  for (let index = 0; index < count; index++) {
    const zigzag = cells[index];
    if (typeof zigzag === "number") {
      cells[index] = (zigzag >> 1) ^ -(zigzag & 1);
    }
  }
}

/** Writes numbers from 0 that are below 2³¹. */
function encodeUnsigned(values: readonly (number | undefined)[], into: Bytes, ends: Uint32Array): boolean {
  const count = values.length;
  const array = into.room(5 * count);
  let length = into.length;
  for (let index = 0; index < count; index++) {
    let value = values[index]!;
    // A missing value is not below anything.
    if (!(value <= 0x7fffffff)) {
      return false;
    }
    while (value > 127) {
      array[length++] = (value & 127) | 128;
      value >>= 7;
    }
    ends[index] = length + 1;
    array[length++] = value;
  }
  into.length = length;
  return true;
}

function encodeSigned(values: readonly (number | undefined)[], into: Bytes, ends: Uint32Array): boolean {
  // The zigzag of what is missing is not a number.
  return encodeUnsigned(
    values.map((value) => (value! < 0 ? -2 * value! - 1 : 2 * value!)),
    into,
    ends,
  );
}

/** For numbers from 0. */
export const unsignedColumns = { decodeAll: decodeUnsigned, encodeAll: encodeUnsigned };
/** For numbers in zigzag. */
export const signedColumns = { decodeAll: decodeSigned, encodeAll: encodeSigned };
