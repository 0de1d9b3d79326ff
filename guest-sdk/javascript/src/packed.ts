/**
 * Numbers as bytes, little-endian, as `operator-packed` has them: what comes in is seen through typed arrays without a copy, and
 * what leaves is the bytes of typed arrays.
 *
 * An event time stays two halves, 32 bits each, until an operator asks for it, so a time that is only passed on is exact at
 * any size and costs no `bigint`.
 */

import type { Column, Numbers, OptionalColumn, PackedColumn, PackedOptionalColumn } from "./host.js";

/** The event time of a record without one. */
export const NO_TIME = -9223372036854775808;

const HIGH = 2 ** 32;
const NO_TIME_HIGH = -(2 ** 31);

/** The u32 of some bytes. */
export function u32s(bytes: Uint8Array): Uint32Array {
  const { buffer, byteOffset, length } = aligned(bytes);
  return new Uint32Array(buffer, byteOffset, length >> 2);
}

/** The halves of some s64: item `i` is `[2 * i]` and, above it, `[2 * i + 1]`. */
export function halves(bytes: Uint8Array): Int32Array {
  const { buffer, byteOffset, length } = aligned(bytes);
  return new Int32Array(buffer, byteOffset, length >> 2);
}

/** A host hands over bytes of their own; a test may hand over a part of others. */
function aligned(bytes: Uint8Array): Uint8Array {
  return bytes.byteOffset & 3 ? bytes.slice() : bytes;
}

/** The bytes of some u32. */
export function bytesOf(numbers: Numbers): Uint8Array {
  const array = numbers instanceof Uint32Array ? numbers : Uint32Array.from(numbers);
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

export function unpacked(column: PackedColumn): Column {
  return { ends: u32s(column.ends), bytes: column.bytes };
}

export function unpackedOptional(column: PackedOptionalColumn): OptionalColumn {
  return { present: column.present, ends: u32s(column.ends), bytes: column.bytes };
}

export function packed(column: Column): PackedColumn {
  return { ends: bytesOf(column.ends), bytes: column.bytes };
}

export function packedOptional(column: OptionalColumn): PackedOptionalColumn {
  return { present: column.present, ends: bytesOf(column.ends), bytes: column.bytes };
}

/** Item `index` of some times, `undefined` for none; an error if a number does not hold it exactly. */
export function timeAt(times: Int32Array, index: number): number | undefined {
  const high = times[2 * index + 1]!;
  const low = times[2 * index]! >>> 0;
  const time = high * HIGH + low;
  if (Number.isSafeInteger(time)) {
    return time;
  }
  if (high === NO_TIME_HIGH && low === 0) {
    return undefined;
  }
  throw new RangeError(`the event time ${time} is beyond 2^53 ms, which JavaScript cannot count exactly`);
}

/** Event times that grow at their end. */
export class Times {
  private halves = new Int32Array(128);
  private length = 0;

  /** Appends item `index` of other times, whatever its size. */
  copy(times: Int32Array, index: number): void {
    this.append(times[2 * index]!, times[2 * index + 1]!);
  }

  /** Appends whole milliseconds, exact ones or `NO_TIME`. */
  push(time: number): void {
    this.append(time, Math.floor(time / HIGH));
  }

  written(): Uint8Array {
    return new Uint8Array(this.halves.buffer, 0, this.length * 4);
  }

  private append(low: number, high: number): void {
    if (this.length === this.halves.length) {
      const grown = new Int32Array(this.length * 2);
      grown.set(this.halves);
      this.halves = grown;
    }
    // What is stored is the number modulo 2³².
    this.halves[this.length++] = low;
    this.halves[this.length++] = high;
  }
}

/** A bitmap whose first `count` bits are set. */
export function allPresent(count: number): Uint8Array {
  const present = new Uint8Array((count + 7) >> 3).fill(255);
  if (count & 7) {
    present[present.length - 1] = (1 << (count & 7)) - 1;
  }
  return present;
}
