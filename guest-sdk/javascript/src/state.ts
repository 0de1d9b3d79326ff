/**
 * What all kinds of state have in common, and the one with one value a key.
 *
 * A state always means the state of the current record's key. It gives what the encoding of a value keeps, so nothing depends on
 * where a batch ends. A value that nothing can change, such as a number, is checked when it is set, kept as it is, and encoded
 * once, after the last record of a call. Any other is encoded when it is set, and decoded each time that somebody asks.
 */

import { Bytes, readable, startOf } from "./bytes.js";
import type { Codec } from "./encoding.js";
import type { Batch, CallOutput, Column, OptionalColumn, StateDeclaration } from "./host.js";

/** The call that is going on: one object for the life of an operator, which all parts of it share. */
export class Call {
  /** The place of the current record among those of the call, and its key's slot. */
  index = 0;
  slot = 0;
  isRunning = false;
  input = 0;
  keys: Column = { ends: [], bytes: new Uint8Array(0) };
  slots: readonly number[] = [];
  values: Column = this.keys;
  timestamps: readonly number[] = [];

  begin(input: number, batch: Batch): void {
    this.input = input;
    this.keys = batch.keys;
    this.slots = batch.slots;
    this.values = batch.values;
    this.timestamps = batch.timestamps;
    this.isRunning = true;
  }

  key(slot: number): Uint8Array {
    const { ends, bytes } = this.keys;
    return bytes.subarray(startOf(ends, slot), ends[slot]);
  }
}

/** How an older version of a state becomes the present one. */
export interface Migration<T> {
  /** Reads an old value and makes a new one of it. */
  upgrade(bytes: Uint8Array, start: number, end: number): T;
}

/** A migration: how values were written, and what becomes of one. */
export function from<Old, T>(codec: Codec<Old>, upgrade: (old: Old) => T): Migration<T> {
  return { upgrade: (bytes, start, end) => upgrade(codec.decode(bytes, start, end)) };
}

export interface StateOptions<T> {
  /** How long a value lives after it was last written, such as `"30min"` or milliseconds; for ever unless said otherwise. */
  ttl?: string | number;
  /** The version of how values are written; raise it with each change, and say how to migrate. 1 unless said otherwise. */
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
  abstract begin(current: OptionalColumn | undefined): void;
  /** Hands over what changed. */
  abstract finish(into: CallOutput): void;

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
    if (!this.call.isRunning) {
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

/** What nobody has asked for yet. */
const UNREAD = Symbol("unread");

/**
 * One value a key. What follows is spelled out where it would otherwise be a call: an interpreter pays most for those.
 *
 * - `cells` has one item for each slot of the call: what is kept, `undefined` for no value, or `UNREAD`. What nobody has set
 *   stays unread if it is not kept as it is. `isChanged` and `changed` have room for as many.
 * - `changed[..changes]` are the slots that were written, each once.
 */
export class ValueState<T> extends State<T> {
  private cells: (Held<T> | undefined | typeof UNREAD)[] = [];
  private current: OptionalColumn = { present: new Uint8Array(0), ends: [], bytes: new Uint8Array(0) };
  private isChanged = new Uint8Array(0);
  private changed = new Uint32Array(0);
  private changes = 0;
  private readonly bytes = new Bytes();

  /** The value, if there is one. To change it in place changes nothing that is kept: `set` it. */
  get(): T | undefined {
    const slot = this.call.slot;
    const cell = this.cells[slot];
    if (cell !== UNREAD) {
      return cell === undefined ? this.absent() : this.normal === undefined ? this.given(slot, cell as Held<T>) : (cell as T);
    }
    const { present, ends, bytes } = this.current;
    let value: T | undefined;
    if ((present[slot >> 3]! >> (slot & 7)) & 1) {
      try {
        value = this.codec.decode(bytes, slot === 0 ? 0 : ends[slot - 1]!, ends[slot]!);
      } catch (error) {
        throw this.undecodable(slot, error);
      }
      if (this.normal === undefined) {
        return value;
      }
    }
    this.cells[slot] = value;
    return value;
  }

  /** Whether there is a value. */
  has(): boolean {
    return this.get() !== undefined;
  }

  /** Sets the value; an error if it has no encoding. */
  set(value: T): void {
    const isPlain = typeof value === "number" && value > 0 && value <= this.plainMax && (value | 0) === value;
    const kept = isPlain ? value : this.keep(value);
    const { slot, isRunning } = this.call;
    if (!isRunning) {
      this.check();
    } else if (this.isChanged[slot] !== 1) {
      this.isChanged[slot] = 1;
      this.changed[this.changes++] = slot;
    }
    this.cells[slot] = kept;
  }

  /** Forgets the value. */
  clear(): void {
    this.check();
    const { slot } = this.call;
    if (this.isChanged[slot] !== 1) {
      this.isChanged[slot] = 1;
      this.changed[this.changes++] = slot;
    }
    this.cells[slot] = undefined;
  }

  begin(current: OptionalColumn | undefined): void {
    if (current === undefined) {
      throw new Error(`the host handed over nothing for state \`${this.declaration.name}\``);
    }
    const slots = current.ends.length;
    this.current = current;
    this.cells = new Array<typeof UNREAD>(slots).fill(UNREAD);
    if (this.changed.length < slots) {
      this.isChanged = new Uint8Array(slots);
      this.changed = new Uint32Array(slots);
    } else {
      this.isChanged.fill(0);
    }
    this.changes = 0;
  }

  finish(into: CallOutput): void {
    const { bytes, changed, cells, changes: count, codec, normal } = this;
    this.cells = [];
    if (count === 0) {
      return;
    }
    bytes.length = 0;
    const ends = new Uint32Array(count);
    const present = new Uint8Array((count + 7) >> 3).fill(255);
    if (count & 7) {
      present[present.length - 1] = (1 << (count & 7)) - 1;
    }
    for (let index = 0; index < count; index++) {
      const kept = cells[changed[index]!] as Held<T> | undefined;
      if (kept === undefined) {
        present[index >> 3]! &= ~(1 << (index & 7));
      } else if (normal === undefined) {
        bytes.append(kept as Uint8Array);
      } else {
        codec.encode(kept as T, bytes);
      }
      ends[index] = bytes.length;
    }
    const values = { present, ends, bytes: bytes.written() };
    into.values.push({ state: this.position, slots: changed.subarray(0, count), values });
  }

  /** There is no value, or no record. */
  private absent(): undefined {
    this.check();
    return undefined;
  }
}
