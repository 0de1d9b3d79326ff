/**
 * Many values per key, each under a sub-key, in the order of the sub-keys.
 *
 * Entries come from the host one by one when they are asked for, or in pages during iteration. What a call has read or
 * written is kept until its end, so an entry costs the host one look-up per call, and is laid over what the host has.
 */

import { Bytes, Ends, binaryOf, bytesOfBinary, startOf } from "./bytes.js";
import { type Codec, type SubKeyCodec, keyOf } from "./encoding.js";
import { type Column, type PackedOutput, host } from "./host.js";
import { bytesOf } from "./packed.js";
import { currentSlot } from "./place.js";
import { type Call, type Held, State, type StateOptions, because } from "./state.js";

/** Entries of the first page, and of the others. */
const FIRST_PAGE = 32;
const PAGE = 4096;

/** What is kept of a value, if there is one. */
interface Entry<V> {
  kept: Held<V> | undefined;
  isChanged: boolean;
}

/** Entries by sub-key as a binary string, which sorts as its bytes do. */
interface OfKey<V> {
  isCleared: boolean;
  entries: Map<string, Entry<V>>;
}

/** Which entries: those that are not below `from` and below `to`; all unless said otherwise. */
export interface Range<K> {
  from?: K;
  to?: K;
  /** From the highest sub-key down. */
  descending?: boolean;
}

/** A map for each key. */
export class MapState<K, V> extends State<V> {
  private keys = new Map<number, OfKey<V>>();
  private readonly keyBytes = new Bytes();

  constructor(
    call: Call,
    position: number,
    name: string,
    readonly subKeys: SubKeyCodec<K>,
    codec: Codec<V>,
    options: StateOptions<V>,
  ) {
    super(call, position, "map", name, codec, options);
  }

  /** The value of a sub-key, if there is one. A change in place has no effect until it is `set`. */
  get(subKey: K): V | undefined {
    this.check();
    const key = this.ofKey();
    const at = this.keyOf(subKey);
    let entry = key.entries.get(at);
    if (entry === undefined) {
      entry = { kept: key.isCleared ? undefined : this.ask(), isChanged: false };
      key.entries.set(at, entry);
    }
    return entry.kept === undefined ? undefined : this.given(currentSlot, entry.kept);
  }

  /** Whether there is a value. */
  has(subKey: K): boolean {
    return this.get(subKey) !== undefined;
  }

  /** Sets a value; an error if it has no encoding. The previous value is not read. */
  set(subKey: K, value: V): void {
    this.put(subKey, this.keep(value));
  }

  /** Removes a value, if there is one. The previous value is not read. */
  delete(subKey: K): void {
    this.put(subKey, undefined);
  }

  /** Removes all entries. */
  clear(): void {
    this.check();
    const key = this.ofKey();
    key.isCleared = true;
    key.entries.clear();
  }

  /** All entries, in the order of their sub-keys. */
  [Symbol.iterator](): Generator<[K, V], void, undefined> {
    return this.entries();
  }

  /** The entries of a range, in the order of their sub-keys or the other way round. */
  entries(range: Range<K> = {}): Generator<[K, V], void, undefined> {
    return this.walk(range, FIRST_PAGE);
  }

  /** The entry with the lowest sub-key. */
  first(): [K, V] | undefined {
    return this.walk({}, 1).next().value ?? undefined;
  }

  /** The entry with the highest sub-key. */
  last(): [K, V] | undefined {
    return this.walk({ descending: true }, 1).next().value ?? undefined;
  }

  /** Whether there is no entry. */
  get isEmpty(): boolean {
    return this.first() === undefined;
  }

  begin(): void {
    this.keys.clear();
  }

  finish(into: PackedOutput): void {
    const cleared: number[] = [];
    const slots = new Ends();
    const subKeys = { ends: new Ends(), bytes: new Bytes() };
    const values = { ends: new Ends(), bytes: new Bytes() };
    const present: number[] = [];
    for (const [slot, key] of this.keys) {
      if (key.isCleared) {
        cleared.push(slot);
      }
      for (const [subKey, entry] of key.entries) {
        if (!entry.isChanged) {
          continue;
        }
        const index = slots.length;
        slots.push(slot);
        subKeys.bytes.append(bytesOfBinary(subKey));
        subKeys.ends.push(subKeys.bytes.length);
        present[index >> 3] ??= 0;
        if (entry.kept !== undefined) {
          present[index >> 3]! |= 1 << (index & 7);
          this.append(entry.kept, values.bytes);
        }
        values.ends.push(values.bytes.length);
      }
    }
    if (cleared.length > 0 || slots.length > 0) {
      into.maps.push({
        state: this.position,
        cleared: bytesOf(cleared),
        slots: bytesOf(slots.written()),
        subKeys: { ends: bytesOf(subKeys.ends.written()), bytes: subKeys.bytes.written() },
        values: { present: Uint8Array.from(present), ends: bytesOf(values.ends.written()), bytes: values.bytes.written() },
      });
    }
  }

  override subKeyToJson(bytes: Uint8Array): string {
    return this.subKeys.keyToJson(this.subKeys.decodeKey(bytes, 0, bytes.length));
  }

  override subKeyFromJson(json: string, into: Bytes): void {
    this.subKeys.encodeKey(this.subKeys.keyFromJson(json), into);
  }

  private ofKey(): OfKey<V> {
    let key = this.keys.get(currentSlot);
    if (key === undefined) {
      key = { isCleared: false, entries: new Map() };
      this.keys.set(currentSlot, key);
    }
    return key;
  }

  private put(subKey: K, kept: Held<V> | undefined): void {
    this.check();
    const { entries } = this.ofKey();
    entries.set(this.keyOf(subKey), { kept, isChanged: true });
  }

  /** A sub-key as a binary string; its bytes are in `keyBytes`. */
  private keyOf(subKey: K): string {
    try {
      return keyOf(this.subKeys, subKey, this.keyBytes);
    } catch (error) {
      const { name } = this.declaration;
      throw new Error(`state \`${name}\` has sub-keys of type \`${this.subKeys.name}\`: ${because(error)}`);
    }
  }

  /** What the host has for the sub-key in `keyBytes`. */
  private ask(): Held<V> | undefined {
    const slot = currentSlot;
    const asked = { ends: [this.keyBytes.length], bytes: this.keyBytes.copy() };
    const { present, ends, bytes } = host().state.mapGet(this.position, [slot], asked);
    return present[0]! & 1 ? this.keepEncoded(slot, bytes, 0, ends[0]!) : undefined;
  }

  /** Merges pages of the host with what this call knows, which is newer. */
  private *walk(range: Range<K>, firstPage: number): Generator<[K, V], void, undefined> {
    this.check();
    const isDescending = range.descending === true;
    const start = range.from === undefined ? "" : this.keyOf(range.from);
    const end = range.to === undefined ? undefined : this.keyOf(range.to);
    if (end !== undefined && end <= start) {
      return;
    }
    const slot = currentSlot;
    const key = this.ofKey();
    const own = [...key.entries.keys()].filter((at) => at >= start && (end === undefined || at < end)).sort();
    if (isDescending) {
      own.reverse();
    }
    const isBefore = (one: string, other: string): boolean => (isDescending ? one > other : one < other);
    let at = 0;
    for (const [subKey, values, index] of this.pages(slot, key, start, end, isDescending, firstPage)) {
      for (; at < own.length && isBefore(own[at]!, subKey); at++) {
        yield* this.known(slot, key, own[at]!);
      }
      if (own[at] === subKey) {
        at++;
      }
      if (key.entries.has(subKey)) {
        yield* this.known(slot, key, subKey);
      } else if (!key.isCleared) {
        const value = this.decoded(slot, values.bytes, startOf(values.ends, index), values.ends[index]!);
        yield [this.keyFrom(subKey), value];
      }
    }
    for (; at < own.length; at++) {
      yield* this.known(slot, key, own[at]!);
    }
  }

  private *known(slot: number, key: OfKey<V>, subKey: string): Generator<[K, V], void, undefined> {
    const kept = key.entries.get(subKey)?.kept;
    if (kept !== undefined) {
      yield [this.keyFrom(subKey), this.given(slot, kept)];
    }
  }

  private keyFrom(subKey: string): K {
    const bytes = bytesOfBinary(subKey);
    return this.subKeys.decodeKey(bytes, 0, bytes.length);
  }

  /** What the host has, entry by entry. */
  private *pages(
    slot: number,
    key: OfKey<V>,
    start: string,
    end: string | undefined,
    isDescending: boolean,
    firstPage: number,
  ): Generator<[string, Column, number], void, undefined> {
    let [from, to] = [bytesOfBinary(start), end === undefined ? null : bytesOfBinary(end)];
    for (let max = firstPage; !key.isCleared; max = PAGE) {
      const page = host().state.mapScan(this.position, slot, from, to, isDescending, max);
      const { ends, bytes } = page.subKeys;
      for (let index = 0; index < ends.length; index++) {
        yield [binaryOf(bytes, startOf(ends, index), ends[index]!), page.values, index];
      }
      if (!page.more || ends.length === 0) {
        return;
      }
      const last = bytes.slice(startOf(ends, ends.length - 1), ends[ends.length - 1]);
      if (isDescending) {
        to = last;
      } else {
        from = new Uint8Array(last.length + 1);
        from.set(last);
      }
    }
  }
}
