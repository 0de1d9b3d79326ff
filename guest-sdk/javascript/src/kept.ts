/**
 * What a played host keeps of the states of one task, in memory, with a clock that only moves when a test says so.
 */

import { binaryOf, bytesOfBinary, startOf } from "./bytes.js";
import type { CallOutput, Column, Host, Numbers, StateDeclaration } from "./host.js";
import { column } from "./plugin.js";

export interface Cell {
  bytes: Uint8Array;
  writtenMs: number;
}

/** The values of a key: one under "" for a value, those of a list in order, those of a map by sub-key. */
export interface OfState {
  values: Map<string, Cell>;
  lists: Map<string, Cell[]>;
  maps: Map<string, Map<string, Cell>>;
}

/** All states of a task, by position; keys are binary strings. */
export class Kept {
  nowMs = 0;
  states: OfState[];

  constructor(public declared: readonly StateDeclaration[]) {
    this.states = declared.map(() => ({ values: new Map(), lists: new Map(), maps: new Map() }));
  }

  /** The current values of a value state, for a call. */
  current(state: number, keys: readonly string[]): Column & { present: Uint8Array } {
    const present = new Uint8Array((keys.length + 7) >> 3);
    const items = keys.map((key, slot) => {
      const cell = this.states[state]!.values.get(key);
      if (cell === undefined || !this.isAlive(state, cell)) {
        return new Uint8Array(0);
      }
      present[slot >> 3]! |= 1 << (slot & 7);
      return cell.bytes;
    });
    return { present, ...column(items) };
  }

  value(state: number, key: string): Uint8Array | undefined {
    const cell = this.states[state]!.values.get(key);
    return cell !== undefined && this.isAlive(state, cell) ? cell.bytes : undefined;
  }

  items(state: number, key: string): Uint8Array[] {
    const cells = this.states[state]!.lists.get(key) ?? [];
    return cells.filter((cell) => this.isAlive(state, cell)).map((cell) => cell.bytes);
  }

  /** Entries in the order of their sub-keys. */
  entries(state: number, key: string): [string, Uint8Array][] {
    const cells = [...(this.states[state]!.maps.get(key) ?? [])].filter(([, cell]) => this.isAlive(state, cell));
    return cells.map(([subKey, cell]): [string, Uint8Array] => [subKey, cell.bytes]).sort(([one], [two]) => (one < two ? -1 : 1));
  }

  /** Applies what a call returned, and refuses what a host would. */
  apply(output: CallOutput, keys: readonly string[]): void {
    const cell = (bytes: Uint8Array): Cell => ({ bytes: bytes.slice(), writtenMs: this.nowMs });
    for (const { state, slots, values } of output.values) {
      once(Array.from(slots), "slot");
      each(slots, values, (slot, bytes, index) => {
        const of = this.states[state]!.values;
        if (isPresent(values.present, index)) {
          of.set(keys[slot]!, cell(bytes));
        } else {
          of.delete(keys[slot]!);
        }
      });
    }
    for (const { state, cleared, slots, values } of output.lists) {
      const of = this.states[state]!.lists;
      cleared.forEach((slot) => of.delete(keys[slot]!));
      each(slots, values, (slot, bytes) => of.set(keys[slot]!, [...(of.get(keys[slot]!) ?? []), cell(bytes)]));
    }
    for (const { state, cleared, slots, subKeys, values } of output.maps) {
      const of = this.states[state]!.maps;
      cleared.forEach((slot) => of.delete(keys[slot]!));
      once(
        Array.from(slots).map((slot, index) => `${slot} ${itemOf(subKeys, index)}`),
        "sub-key",
      );
      each(slots, values, (slot, bytes, index) => {
        const entries = of.get(keys[slot]!) ?? new Map<string, Cell>();
        of.set(keys[slot]!, entries);
        const subKey = binaryOf(itemOf(subKeys, index));
        if (isPresent(values.present, index)) {
          entries.set(subKey, cell(bytes));
        } else {
          entries.delete(subKey);
        }
      });
    }
  }

  /** The reads of the contract, for the keys of a call. Answers are short, so that operators have to ask again. */
  reads(keys: readonly string[]): Host["state"] {
    const PAGE = 3;
    return {
      mapGet: (state, slots, subKeys) => {
        const found = Array.from(slots).map((slot, index) =>
          this.entries(state, keys[slot]!).find(([subKey]) => subKey === binaryOf(itemOf(subKeys, index))),
        );
        const present = new Uint8Array((found.length + 7) >> 3);
        found.forEach((entry, index) => (present[index >> 3]! |= entry === undefined ? 0 : 1 << (index & 7)));
        return { present, ...column(found.map((entry) => entry?.[1] ?? "")) };
      },
      mapScan: (state, slot, start, end, descending, max) => {
        const [from, to] = [binaryOf(start), end === null ? undefined : binaryOf(end)];
        const all = this.entries(state, keys[slot]!);
        const within = all.filter(([subKey]) => subKey >= from && (to === undefined || subKey < to));
        const page = (descending ? within.reverse() : within).slice(0, Math.min(Math.max(max, 1), PAGE));
        return {
          subKeys: column(page.map(([subKey]) => bytesOfBinary(subKey))),
          values: column(page.map(([, bytes]) => bytes)),
          more: page.length < within.length,
        };
      },
      listRead: (state, slot, start, max) => {
        const all = this.items(state, keys[slot]!);
        const end = start + Math.min(Math.max(max, 1), PAGE);
        return { values: column(all.slice(start, end)), next: end < all.length ? end : null };
      },
      listLen: (state, slots) => Array.from(slots).map((slot) => this.items(state, keys[slot]!).length),
    };
  }

  private isAlive(state: number, cell: Cell): boolean {
    const { ttlMs } = this.declared[state]!;
    return ttlMs === null || this.nowMs < cell.writtenMs + ttlMs;
  }
}

export function itemOf(items: Column, index: number): Uint8Array {
  return items.bytes.subarray(startOf(items.ends, index), items.ends[index]);
}

function isPresent(present: Uint8Array, index: number): boolean {
  return ((present[index >> 3]! >> (index & 7)) & 1) === 1;
}

function each(slots: Numbers, items: Column, act: (slot: number, bytes: Uint8Array, index: number) => void): void {
  if (slots.length !== items.ends.length) {
    throw new Error("the operator returned another number of slots than of values");
  }
  slots.forEach((slot: number, index: number) => act(slot, itemOf(items, index), index));
}

function once(items: readonly unknown[], what: string): void {
  if (new Set(items).size !== items.length) {
    throw new Error(`the operator wrote a ${what} twice`);
  }
}
