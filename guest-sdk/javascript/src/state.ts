/**
 * What all kinds of state have in common, and the one with one value per key.
 *
 * A state always means the state of the current record's key. It gives what the encoding of a value keeps, so nothing depends on
 * where a batch ends. A value that nothing can change, such as a number, is checked when it is set, kept as it is, and encoded
 * once, after the last record of a call. Any other is encoded when it is set, and decoded at each read.
 */

import { Bytes, Ends, binaryOf, isAscii, readable, startOf, textOfBinary } from "./bytes.js";
import type { Codec } from "./encoding.js";
import type {
  Column,
  OptionalColumn,
  PackedBatch,
  PackedOptionalColumn,
  PackedOutput,
  Selection,
  StateDeclaration,
} from "./host.js";
import { allPresent, bytesOf, halves, u32s, unpacked, unpackedOptional } from "./packed.js";
import { currentSlot } from "./place.js";

/** What a record can be asked for that a batch can come without. */
export type InputColumn = "value" | "time";

const NONE: OptionalColumn = { present: new Uint8Array(0), ends: [], bytes: new Uint8Array(0) };

/** What came with the call that is going on: one object for the life of an operator, which all parts of it share. */
export class Call {
  input = 0;
  keys: Column = NONE;
  slots: Uint32Array = new Uint32Array(0);
  /** Nothing if the operator has declared that it does not read them. */
  values: Column | undefined;
  times: Int32Array | undefined;
  /** The values as one binary string, once one of them was asked for as text, and whether they are ASCII. */
  private binary: string | undefined;
  private isAscii = false;

  begin(input: number, batch: PackedBatch, unread: readonly InputColumn[]): void {
    this.input = input;
    this.keys = unpacked(batch.keys);
    this.slots = u32s(batch.slots);
    this.values = unread.includes("value") ? undefined : unpacked(batch.values);
    this.times = unread.includes("time") ? undefined : halves(batch.timestamps);
  }

  /** Nothing can be asked for between calls. */
  end(): void {
    this.values = this.times = this.binary = undefined;
  }

  /** Value `index` as text, or `undefined` if it is not UTF-8. Where one is asked for, most are, so all are read at once. */
  text({ ends, bytes }: Column, index: number): string | undefined {
    if (this.binary === undefined) {
      this.binary = binaryOf(bytes);
      this.isAscii = isAscii(bytes);
    }
    const binary = this.binary.slice(index === 0 ? 0 : ends[index - 1], ends[index]);
    return this.isAscii ? binary : textOfBinary(binary);
  }

  key(slot: number): Uint8Array {
    const { ends, bytes } = this.keys;
    return bytes.subarray(startOf(ends, slot), ends[slot]);
  }
}

/** Converts an older version of a state to the current one. */
export interface Migration<T> {
  /** Reads an old value and makes a new one of it. */
  upgrade(bytes: Uint8Array, start: number, end: number): T;
}

/** A migration: how old values were written, and the function that makes a new one of each. */
export function from<Old, T>(codec: Codec<Old>, upgrade: (old: Old) => T): Migration<T> {
  return { upgrade: (bytes, start, end) => upgrade(codec.decode(bytes, start, end)) };
}

export interface StateOptions<T> {
  /** How long after its last write a value expires, such as `"30min"` or milliseconds; by default never. */
  ttl?: string | number;
  /** The version of the encoding, by default 1; raise it with each change, and add a migration. */
  version?: number;
  /** By version. */
  migrate?: Readonly<Record<number, Migration<T>>>;
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 };
const TTL_MS_MAX = 3_155_760_000_000;

/** Milliseconds of a time such as `"30min"`. */
export function milliseconds(time: string | number, what: string): number {
  const [, count, unit] = /^([0-9]+) ?(ms|s|min|h|d)$/.exec(String(time)) ?? [];
  const ms = typeof time === "number" ? time : Number(count) * (UNITS[unit ?? ""] ?? NaN);
  if (!Number.isInteger(ms) || ms < 1 || ms > TTL_MS_MAX) {
    throw new RangeError(`${what} is \`${time}\`; write something like "30s", "15min", "12h" or "7d", up to 100 years`);
  }
  return ms;
}

/** What a call keeps of a value: itself if its codec has `normal`, or else its encoding. */
export type Held<T> = T | Uint8Array;

/** A declared state. */
export abstract class State<T> {
  readonly declaration: StateDeclaration;
  protected readonly normal: ((value: T) => T) | undefined;
  protected readonly plainMax: number;
  protected readonly scratch = new Bytes();

  constructor(
    protected readonly call: Call,
    readonly position: number,
    kind: StateDeclaration["kind"],
    name: string,
    readonly codec: Codec<T>,
    readonly options: StateOptions<T>,
  ) {
    const ttlMs = options.ttl === undefined ? null : milliseconds(options.ttl, `the ttl of state \`${name}\``);
    this.normal = codec.normal;
    this.plainMax = codec.plainMax ?? 0;
    this.declaration = { name, kind, version: options.version ?? 1, ttlMs };
  }

  /** Forgets the call before. */
  abstract begin(current: PackedOptionalColumn | undefined): void;
  /** Hands over what changed. */
  abstract finish(into: PackedOutput): void;

  subKeyToJson(_bytes: Uint8Array): string {
    throw new Error(`state \`${this.declaration.name}\` has no sub-keys`);
  }

  subKeyFromJson(_json: string, _into: Bytes): void {
    throw new Error(`state \`${this.declaration.name}\` has no sub-keys`);
  }

  migrated(fromVersion: number, bytes: Uint8Array, start: number, end: number, into: Bytes): void {
    this.codec.encode(this.migration(fromVersion).upgrade(bytes, start, end), into);
  }

  migration(fromVersion: number): Migration<T> {
    const { name, version } = this.declaration;
    const migration = this.options.migrate?.[fromVersion];
    if (migration === undefined) {
      throw new Error(
        `state \`${name}\` is declared in version ${version} and says nothing of version ${fromVersion}; add ` +
          `\`migrate: { ${fromVersion}: from(codec, (old) => ..) }\` to its options, or run the plugin that wrote it`,
      );
    }
    return migration;
  }

  /** Refuses to be used where there is no record. */
  protected check(): void {
    if (currentSlot < 0) {
      throw new Error(`state \`${this.declaration.name}\` belongs to a record; use it in \`process\``);
    }
  }

  protected undecodable(slot: number, error: unknown): Error {
    const { name, version } = this.declaration;
    return new Error(
      `state \`${name}\` of key \`${readable(this.call.key(slot))}\` does not decode as version ${version} of ` +
        `\`${this.codec.name}\`: ${because(error)}; run the plugin that wrote it, raise \`version\` and say how to ` +
        "`migrate`, or keep this state as it was and add another one for the new type",
    );
  }

  /** What is to be kept of a value that is given; an error if it has no encoding. */
  protected keep(value: T): Held<T> {
    const { normal, scratch } = this;
    try {
      if (normal !== undefined) {
        return normal(value);
      }
      scratch.length = 0;
      this.codec.encode(value, scratch);
    } catch (error) {
      throw this.unencodable(error);
    }
    return scratch.copy();
  }

  /** What is to be kept of a value that the host has. */
  protected keepEncoded(slot: number, bytes: Uint8Array, start: number, end: number): Held<T> {
    return this.normal === undefined ? bytes.slice(start, end) : this.decoded(slot, bytes, start, end);
  }

  /** The value of what was kept. */
  protected given(slot: number, kept: Held<T>): T {
    if (this.normal !== undefined) {
      return kept as T;
    }
    const bytes = kept as Uint8Array;
    return this.decoded(slot, bytes, 0, bytes.length);
  }

  /** Appends the encoding of what was kept. */
  protected append(kept: Held<T>, into: Bytes): void {
    if (this.normal === undefined) {
      into.append(kept as Uint8Array);
    } else {
      this.codec.encode(kept as T, into);
    }
  }

  protected decoded(slot: number, bytes: Uint8Array, start: number, end: number): T {
    try {
      return this.codec.decode(bytes, start, end);
    } catch (error) {
      throw this.undecodable(slot, error);
    }
  }

  protected unencodable(error: unknown): Error {
    return new Error(`state \`${this.declaration.name}\` cannot keep this as \`${this.codec.name}\`: ${because(error)}`);
  }
}

export function because(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Stands for a value that was not read yet. */
const UNREAD = Symbol("unread");

/**
 * One value per key. What follows is spelled out where it would otherwise be a call: an interpreter pays most for those.
 *
 * - `cells` has one item for each slot of the call: what is kept, `undefined` for no value, or `UNREAD`. A slot that
 *   was not set stays unread if its value is not kept as it is.
 * - `isChanged[slot]` is 1 if a slot was written.
 */
export class ValueState<T> extends State<T> {
  private cells: (Held<T> | undefined | typeof UNREAD)[] = [];
  private current: OptionalColumn = NONE;
  private isChanged = new Uint8Array(0);
  private isFirstLook = false;
  private readonly bytes = new Bytes();

  /** The value, if there is one. A change in place has no effect until it is `set`. */
  get(): T | undefined {
    const cell = this.cells[currentSlot];
    // A number is kept as it is.
    return typeof cell === "number" ? (cell as T) : this.look(cell);
  }

  /** Whether there is a value. */
  has(): boolean {
    return this.get() !== undefined;
  }

  /** Sets the value; an error if it has no encoding. */
  set(value: T): void {
    if (currentSlot < 0) {
      this.check();
    }
    const isPlain = typeof value === "number" && (value | 0) === value && value > 0 && value <= this.plainMax;
    this.cells[currentSlot] = isPlain ? value : this.keep(value);
    this.isChanged[currentSlot] = 1;
  }

  /** Removes the value. */
  clear(): void {
    this.check();
    this.cells[currentSlot] = undefined;
    this.isChanged[currentSlot] = 1;
  }

  begin(current: PackedOptionalColumn | undefined): void {
    if (current === undefined) {
      throw new Error(`the host handed over nothing for state \`${this.declaration.name}\``);
    }
    this.current = unpackedOptional(current);
    const slots = this.current.ends.length;
    this.cells = new Array<typeof UNREAD>(slots).fill(UNREAD);
    this.isChanged = new Uint8Array(slots);
    this.isFirstLook = this.codec.decodeAll !== undefined;
  }

  finish(into: PackedOutput): void {
    const { bytes, cells, codec, isChanged } = this;
    this.cells = [];
    if (!isChanged.includes(1)) {
      return;
    }
    const isAll = !isChanged.includes(0);
    let changed = cells as (Held<T> | undefined)[];
    let slots: Selection = { tag: "all" };
    if (!isAll) {
      const listed = new Ends();
      changed = [];
      for (let slot = isChanged.indexOf(1); slot >= 0; slot = isChanged.indexOf(1, slot + 1)) {
        listed.push(slot);
        changed.push(cells[slot] as Held<T> | undefined);
      }
      slots = { tag: "listed", val: bytesOf(listed.written()) };
    }
    const ends = new Uint32Array(changed.length);
    const present = allPresent(changed.length);
    bytes.length = 0;
    if (codec.encodeAll?.(changed as T[], bytes, ends) !== true) {
      this.appendEach(changed, ends, present);
    }
    into.values.push({ state: this.position, slots, values: { present, ends: bytesOf(ends), bytes: bytes.written() } });
  }

  private appendEach(changed: readonly (Held<T> | undefined)[], ends: Uint32Array, present: Uint8Array): void {
    const { bytes } = this;
    bytes.length = 0;
    changed.forEach((kept, index) => {
      if (kept === undefined) {
        present[index >> 3]! &= ~(1 << (index & 7));
      } else {
        this.append(kept, bytes);
      }
      ends[index] = bytes.length;
    });
  }

  /** The value of a cell of the current slot that is not a number. */
  private look(cell: Held<T> | undefined | typeof UNREAD): T | undefined {
    if (cell === undefined) {
      // There is no value, or no record.
      this.check();
      return undefined;
    }
    const slot = currentSlot;
    if (cell !== UNREAD) {
      return this.given(slot, cell);
    }
    const { present, ends, bytes } = this.current;
    if (this.isFirstLook) {
      // Where one is looked at, most are.
      this.isFirstLook = false;
      if (!this.isChanged.includes(1)) {
        this.codec.decodeAll!(bytes, ends, this.cells as unknown[]);
        return this.get();
      }
    }
    let value: T | undefined;
    if ((present[slot >> 3]! >> (slot & 7)) & 1) {
      value = this.decoded(slot, bytes, startOf(ends, slot), ends[slot]!);
      if (this.normal === undefined) {
        return value;
      }
    }
    this.cells[slot] = value;
    return value;
  }
}
