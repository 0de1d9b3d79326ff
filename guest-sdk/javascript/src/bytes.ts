/**
 * Bytes and text. An interpreter pays for each step, so all that can be one call of a built-in function is one; there is no
 * `TextDecoder` in a component.
 *
 * Text of bytes goes through a "binary string", which has one character for each byte: it also serves as key of a `Map`, and
 * sorts as the bytes do.
 */

/** Arguments that one call of a built-in function takes safely. */
const ARGUMENTS_MAX = 8192;
export const NOT_ASCII = /[^\x00-\x7f]/;
const EMPTY = new Uint8Array(0);

/** Bytes that grow at their end. `array[..length]` is what was written. */
export class Bytes {
  array = new Uint8Array(256);
  length = 0;

  /** Makes room for `more` bytes behind those that are there; returns where to write. */
  room(more: number): Uint8Array {
    const needed = this.length + more;
    if (needed > this.array.length) {
      const grown = new Uint8Array(Math.max(needed, this.array.length * 2));
      grown.set(this.length === this.array.length ? this.array : this.array.subarray(0, this.length));
      this.array = grown;
    }
    return this.array;
  }

  put(byte: number): void {
    this.room(1)[this.length++] = byte;
  }

  append(bytes: Uint8Array): void {
    const { length, array } = this;
    const end = length + bytes.length;
    (end <= array.length ? array : this.room(bytes.length)).set(bytes, length);
    this.length = end;
  }

  /** Appends text as UTF-8. */
  appendText(text: string): void {
    const binary = NOT_ASCII.test(text) ? utf8Binary(text) : text;
    const length = binary.length;
    const array = this.room(length);
    let at = this.length;
    for (let index = 0; index < length; index++) {
      array[at++] = binary.charCodeAt(index);
    }
    this.length = at;
  }

  /** Appends a whole number as decimal text. */
  appendDecimal(number: number): void {
    if ((number | 0) !== number || number < 0) {
      this.appendText(String(number));
      return;
    }
    let rest = number;
    let end = this.length + 1;
    const array = end + 9 <= this.array.length ? this.array : this.room(10);
    for (let bound = 10; rest >= bound; bound *= 10) {
      end++;
    }
    this.length = end;
    while (rest > 9) {
      const tens = (rest / 10) | 0;
      array[--end] = rest - tens * 10 + 48;
      rest = tens;
    }
    array[--end] = rest + 48;
  }

  /** What was written, as long as nothing else is written. */
  written(): Uint8Array {
    return this.length === 0 ? EMPTY : this.array.subarray(0, this.length);
  }

  /** What was written, to keep. */
  copy(): Uint8Array {
    return this.array.slice(0, this.length);
  }
}

/** Numbers below 2³² that grow at their end. */
export class Ends {
  array = new Uint32Array(64);
  length = 0;

  push(number: number): void {
    if (this.length === this.array.length) {
      const grown = new Uint32Array(this.length * 2);
      grown.set(this.array);
      this.array = grown;
    }
    this.array[this.length++] = number;
  }

  written(): Uint32Array {
    return this.array.subarray(0, this.length);
  }
}

/** What newer engines have, such as that of a component. */
const { toBase64 } = Uint8Array.prototype as { toBase64?: () => string };
/** From here on a detour by base64 is shorter: no value of the interpreter is made for each byte. */
const DETOUR_BYTES = 64;

/** One character for each byte of `bytes[start..end]`. */
export function binaryOf(bytes: Uint8Array, start = 0, end = bytes.length): string {
  if (toBase64 !== undefined && end - start >= DETOUR_BYTES) {
    return atob(toBase64.call(bytes.subarray(start, end)));
  }
  if (end - start <= ARGUMENTS_MAX) {
    return String.fromCharCode.apply(null, bytes.subarray(start, end) as unknown as number[]);
  }
  const parts: string[] = [];
  for (let at = start; at < end; at += ARGUMENTS_MAX) {
    parts.push(binaryOf(bytes, at, Math.min(end, at + ARGUMENTS_MAX)));
  }
  return parts.join("");
}

/** The inverse. */
export function bytesOfBinary(binary: string): Uint8Array {
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index++) {
    bytes[index] = binary.charCodeAt(index);
  }
  return bytes;
}

function utf8Binary(text: string): string {
  try {
    return unescape(encodeURIComponent(text));
  } catch {
    throw new Error(`the text ${JSON.stringify(text)} has half a pair of surrogates, so it has no UTF-8`);
  }
}

/** The UTF-8 of a text. */
export function utf8(text: string): Uint8Array {
  return bytesOfBinary(NOT_ASCII.test(text) ? utf8Binary(text) : text);
}

/** How many bytes the UTF-8 of a text has. */
export function utf8Length(text: string): number {
  return NOT_ASCII.test(text) ? utf8Binary(text).length : text.length;
}

/** The text of `bytes[start..end]`, or `undefined` if it is not UTF-8. */
export function textIfUtf8(bytes: Uint8Array, start = 0, end = bytes.length): string | undefined {
  return textOfBinary(binaryOf(bytes, start, end));
}

/** Whether no byte is above 127. Sixteen are looked at in a step. */
export function isAscii(bytes: Uint8Array): boolean {
  const { buffer, byteOffset, length } = bytes.byteOffset & 3 ? bytes.slice() : bytes;
  const words = new Int32Array(buffer, byteOffset, length >> 2);
  const together = words.length & ~3;
  let all = 0;
  for (let at = 0; at < together; at += 4) {
    all |= words[at]! | words[at + 1]! | words[at + 2]! | words[at + 3]!;
  }
  return (all & 0x80808080) === 0 && bytes.subarray(together * 4).every((byte) => byte < 128);
}

/** The text of a binary string, or `undefined` if it is not UTF-8. */
export function textOfBinary(binary: string): string | undefined {
  if (!NOT_ASCII.test(binary)) {
    return binary;
  }
  try {
    return decodeURIComponent(escape(binary));
  } catch {
    return undefined;
  }
}

/** Bytes for people: text where they are some, with the others as `\xff`. */
export function readable(bytes: Uint8Array): string {
  const shown = bytes.length > 64 ? bytes.subarray(0, 64) : bytes;
  const text =
    textIfUtf8(shown) ??
    binaryOf(shown).replace(/[^\x20-\x7e]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, "0")}`);
  return bytes.length > 64 ? `${text}…` : text;
}

/** The start of item `index` of a column. */
export function startOf(ends: ArrayLike<number>, index: number): number {
  return index === 0 ? 0 : ends[index - 1]!;
}
