/**
 * Many values per key, in the order in which they were appended.
 *
 * What a call appends is encoded at once and leaves with the call. What earlier calls appended stays with the host until
 * the operator iterates, and then comes in pages. So appending costs the same however long a list is.
 */

import { Bytes, Ends, startOf } from "./bytes.js";
import { type Column, type PackedOutput, host } from "./host.js";
import { bytesOf } from "./packed.js";
import { currentSlot } from "./place.js";
import { State } from "./state.js";

/** Lists whose lengths are asked for at once. */
const LENGTHS = 64;
/** Items of the first page, and of the others. */
const FIRST_PAGE = 64;
const PAGE = 4096;

interface OfKey {
  isCleared: boolean;
  /** Where in `bytes` each item of this call is, as start and end. */
  appended: number[];
}

/** A list for each key. */
export class ListState<T> extends State<T> {
  private keys = new Map<number, OfKey>();
  private lengths = new Map<number, number>();
  /** Slots of what was appended, in order; an item that was cleared again has none. */
  private slots: number[] = [];
  private ends: number[] = [];
  private bytes = new Bytes();

  /** Appends items: all, or none if one of them has no encoding. */
  push(...items: T[]): void {
    this.check();
    this.take(this.encode(items));
  }

  /** The items, the oldest first. Each is decoded when it is reached. */
  *[Symbol.iterator](): Generator<T, void, undefined> {
    this.check();
    const slot = currentSlot;
    const key = this.keys.get(slot);
    const own = key?.appended.slice() ?? [];
    let next: number | null = key?.isCleared ? null : 0;
    for (let max = FIRST_PAGE; next !== null; max = PAGE) {
      const page: { values: Column; next: number | null } = host().state.listRead(this.position, slot, next, max);
      const { ends, bytes } = page.values;
      for (let index = 0; index < ends.length; index++) {
        yield this.decoded(slot, bytes, startOf(ends, index), ends[index]!);
      }
      next = page.next;
    }
    for (const index of own) {
      yield this.decoded(slot, this.bytes.array, startOf(this.ends, index), this.ends[index]!);
    }
  }

  /** All items, the oldest first. */
  toArray(): T[] {
    return [...this];
  }

  /** The number of items. The host counts them, so the cost grows with the length of the list; that of `isEmpty` does not. */
  get length(): number {
    this.check();
    const key = this.keys.get(currentSlot);
    const own = key?.appended.length ?? 0;
    return own + (key?.isCleared ? 0 : (this.lengths.get(currentSlot) ?? this.askLengths()));
  }

  /** Whether there is no item. */
  get isEmpty(): boolean {
    this.check();
    const slot = currentSlot;
    const key = this.keys.get(slot);
    if (key !== undefined && (key.isCleared || key.appended.length > 0)) {
      return key.appended.length === 0;
    }
    const length = this.lengths.get(slot);
    return length === undefined ? host().state.listRead(this.position, slot, 0, 1).values.ends.length === 0 : length === 0;
  }

  /** Removes all items. */
  clear(): void {
    this.check();
    const key = this.ofKey();
    key.isCleared = true;
    for (const index of key.appended) {
      this.slots[index] = -1;
    }
    key.appended = [];
  }

  /** Replaces all items with these, unless one of them has no encoding. */
  replace(items: Iterable<T>): void {
    this.check();
    const ends = this.encode([...items]);
    this.clear();
    this.take(ends);
  }

  begin(): void {
    this.keys.clear();
    this.lengths.clear();
    this.slots = [];
    this.ends = [];
    this.bytes.length = 0;
  }

  finish(into: PackedOutput): void {
    const cleared: number[] = [];
    for (const [slot, key] of this.keys) {
      if (key.isCleared) {
        cleared.push(slot);
      }
    }
    const slots = new Ends();
    const ends = new Ends();
    const values = new Bytes();
    for (let index = 0; index < this.slots.length; index++) {
      const slot = this.slots[index]!;
      if (slot >= 0) {
        slots.push(slot);
        values.append(this.bytes.array.subarray(startOf(this.ends, index), this.ends[index]));
        ends.push(values.length);
      }
    }
    if (cleared.length > 0 || slots.length > 0) {
      into.lists.push({
        state: this.position,
        cleared: bytesOf(cleared),
        slots: bytesOf(slots.written()),
        values: { ends: bytesOf(ends.written()), bytes: values.written() },
      });
    }
  }

  private ofKey(): OfKey {
    let key = this.keys.get(currentSlot);
    if (key === undefined) {
      key = { isCleared: false, appended: [] };
      this.keys.set(currentSlot, key);
    }
    return key;
  }

  /** Appends items to `bytes`; returns where each ends. */
  private encode(items: readonly T[]): number[] {
    const { codec, bytes } = this;
    const before = bytes.length;
    const ends: number[] = [];
    try {
      for (const item of items) {
        codec.encode(item, bytes);
        ends.push(bytes.length);
      }
    } catch (error) {
      bytes.length = before;
      throw this.unencodable(error);
    }
    return ends;
  }

  /** Takes what `encode` appended for items of the current key. */
  private take(ends: readonly number[]): void {
    const key = this.ofKey();
    for (const end of ends) {
      key.appended.push(this.slots.length);
      this.slots.push(currentSlot);
      this.ends.push(end);
    }
  }

  /** Asks for this list's length, and at the same time for those of the keys that come next. */
  private askLengths(): number {
    const asked: number[] = [];
    const slots = this.call.keys.ends.length;
    for (let slot = currentSlot; slot < slots && asked.length < LENGTHS; slot++) {
      if (!this.lengths.has(slot)) {
        asked.push(slot);
      }
    }
    const answers = host().state.listLen(this.position, asked);
    asked.forEach((slot, index) => this.lengths.set(slot, answers[index]!));
    return this.lengths.get(currentSlot)!;
  }
}
