/**
 * Catches a call whose packed form says something else than its plain one or than a call for each record: an emission under another
 * key, with another time or of another record, text whose ends are not those of its UTF-8, a write of another slot, "all" where it
 * is not all. Batches are drawn by chance, from a fixed seed; the packed form is read here, without the SDK's own code.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  Operator,
  type Output,
  type Payload,
  type PluginRecord,
  bool,
  f64,
  i16,
  i64,
  int,
  json,
  raw,
  text,
  tuple,
  u64,
  u8,
  uint,
  unit,
} from "floodmark";
import { binaryOf, bytesOfBinary, utf8 } from "../src/bytes.js";
import { type Batch, type CallOutput, type OptionalColumn, type PackedOutput, type Selection, attach } from "../src/host.js";
import { Kept, itemOf } from "../src/kept.js";
import { type Exports, column, plugin } from "../src/plugin.js";

type Step = (of: Drawn, out: Output, record: PluginRecord) => void;

/** What the operators do, record by record. */
let steps: readonly Step[][] = [];
let next = 0;

class Drawn extends Operator {
  readonly seeing = this.input("seeing");
  readonly blind = this.input("blind", { unread: ["value", "time"] });
  readonly main = this.output("main");
  readonly side = this.output("side");
  readonly values = {
    uint: this.value("uint", uint),
    int: this.value("int", int),
    i16: this.value("i16", i16),
    u8: this.value("u8", u8),
    u64: this.value("u64", u64),
    i64: this.value("i64", i64),
    bool: this.value("bool", bool),
    f64: this.value("f64", f64),
    text: this.value("text", text),
    unit: this.value("unit", unit),
    raw: this.value("raw", raw),
    json: this.value("json", json<unknown>()),
  };
  readonly items = this.list("items", int);
  readonly bigs = this.list("bigs", u64);
  readonly entries = this.map("map", text, json<unknown>());
  readonly pairs = this.map("pairs", tuple(u8, i64), uint);

  process(record: PluginRecord, out: Output): void {
    for (const step of steps[next++]!) {
      step(this, out, record);
    }
  }
}

/** Chance, the same each time. */
class Chance {
  constructor(private state: number) {}

  below(bound: number): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.state / 2 ** 32) * bound);
  }

  of<T>(some: readonly T[]): T {
    return some[this.below(some.length)]!;
  }
}

const TEXTS = ["", "a", "word", "ä", "\u0080", "\u07ff", "€uro", "日本語", "👍🏽", "a\0b", "x".repeat(300), "\ufeff\ufffd"] as const;
const BROKEN = ["\ud800", "a\udfffb", "\udc00\ud800"] as const;
const NUMBERS = [0, -0, 1, 127, 128, 300, 16383, 16384, 2 ** 31 - 1, 2 ** 31, 2 ** 32 + 5, Number.MAX_SAFE_INTEGER] as const;
const BIGS = [0n, 1n, 300n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n - 1n] as const;
const TIMES = [null, 0, 1, -1, 2 ** 31, 2 ** 32 - 1, -(2 ** 32), 1.7e12, Number.MAX_SAFE_INTEGER, -Number.MAX_SAFE_INTEGER] as const;

function payload(chance: Chance): Payload {
  const drawn: readonly (() => Payload)[] = [
    () => chance.of(TEXTS),
    () => chance.of(NUMBERS),
    () => -chance.of(NUMBERS) / 2,
    () => chance.of(BIGS) * 10n,
    () => Uint8Array.of(chance.below(256), 0, 255),
    () => new Uint8Array(0),
  ];
  return chance.of(drawn)();
}

function value(chance: Chance, state: keyof Drawn["values"]): any {
  const sign = chance.of([1, -1]);
  switch (state) {
    case "uint":
      return chance.of(NUMBERS);
    case "int":
      return sign * chance.of(NUMBERS);
    case "i16":
      return sign * chance.below(32768);
    case "u8":
      return chance.below(256);
    case "u64":
      return chance.of(BIGS) * 2n;
    case "i64":
      return BigInt(sign) * chance.of(BIGS);
    case "bool":
      return chance.below(2) === 0;
    case "f64":
      return chance.of([0.5, -0, NaN, 1 / 3, ...NUMBERS]);
    case "text":
      return chance.of(TEXTS);
    case "unit":
      return null;
    case "raw":
      return Uint8Array.of(chance.below(256));
    case "json":
      return { text: chance.of(TEXTS), list: [chance.of(NUMBERS), null] };
  }
}

const shown = (of: unknown): string =>
  JSON.stringify(of, (_, inner: unknown) => (typeof inner === "bigint" ? `${inner}n` : Object.is(inner, -0) ? "-0" : inner)) ?? "none";

/** Emits what is refused as well as what is right: nothing may be left of it. */
function emission(chance: Chance): Step {
  const [what, broken] = [payload(chance), chance.of(BROKEN)];
  const otherwise = {
    ...(chance.below(2) ? { key: chance.of([...TEXTS, Uint8Array.of(255)]) } : {}),
    ...(chance.below(2) ? { time: chance.of(TIMES) } : {}),
  };
  const isBroken = chance.below(6) === 0;
  const isSide = chance.below(3) === 0;
  return (of, out) => {
    const to = isSide ? of.side : of.main;
    if (isBroken) {
      assert.throws(() => out.emit(broken), /half a pair of surrogates/);
      assert.throws(() => out.emit("a", { ...otherwise, to, key: broken }), /half a pair of surrogates/);
      assert.throws(() => out.emit("a", { ...otherwise, to, time: 0.5 }), /not an event time/);
      assert.throws(() => out.emit({} as string, { ...otherwise, to }), /cannot be emitted/);
    }
    out.emit(what, { ...otherwise, to });
  };
}

function onState(chance: Chance): Step {
  const name = chance.of(Object.keys(new Drawn().values) as (keyof Drawn["values"])[]);
  const [given, kind, at, some] = [value(chance, name), chance.below(12), chance.of(TEXTS), chance.of(NUMBERS)];
  const [big, pair] = [chance.of(BIGS), [chance.below(256), chance.of(BIGS)] as [number, bigint]];
  const acts: readonly Step[] = [
    (of) => of.values[name].set(given as never),
    (of) => of.values[name].set(given as never),
    (of, out) => out.emit(shown(of.values[name].get())),
    (of) => of.values[name].clear(),
    (of) => of.items.push(some, -some),
    (of, out) => (out.emit(shown([...of.items, of.items.length])), of.bigs.push(big)),
    (of) => (of.items.clear(), of.bigs.replace([big, big])),
    (of) => of.entries.set(at, [at, some]),
    (of, out) => out.emit(shown([of.entries.get(at), ...of.entries])),
    (of) => (of.entries.delete(at), of.pairs.set(pair, some)),
    (of, out) => out.emit(shown([...of.pairs.entries({ descending: true }), ...of.bigs])),
    (of) => (of.pairs.clear(), of.pairs.set(pair, 1)),
  ];
  return acts[kind]!;
}

/** What one record does; how much chance there is differs from batch to batch, so that some are regular. */
function drawnSteps(chance: Chance, wildness: number, isSeeing: boolean): Step[] {
  if (chance.below(10) >= wildness) {
    return [(of, out) => (of.values.uint.set((of.values.uint.get() ?? 0) % 1e6 + 1), out.emit(of.values.uint.get()!))];
  }
  const drawn: readonly (() => Step)[] = [
    () => emission(chance),
    () => onState(chance),
    () => onState(chance),
    () => ((what) => (_: Drawn, out: Output) => out.emit(what))(payload(chance)),
    () => (_, out, record) => out.emit(isSeeing ? `${record.time} ${record.tryText() ?? record.value.join()}` : binaryOf(record.key).length),
    () => (_, out) => out.reject("no 日"),
  ];
  return Array.from({ length: chance.below(4) }, () => chance.of(drawn)());
}

interface Given {
  input: number;
  records: { key: string; value: Uint8Array; time: number }[];
}

const NO_TIME = -(2 ** 63);

function drawnBatch(chance: Chance): Given {
  const input = chance.below(2);
  const keys = chance.of([1, 3, 40]);
  const records = Array.from({ length: chance.of([0, 1, 2, 7, 8, 9, 40]) }, () => ({
    key: binaryOf(utf8(`${chance.of(TEXTS)}${chance.below(keys)}`)),
    value: chance.of([utf8(chance.of(TEXTS)), Uint8Array.of(200, 0)]),
    time: chance.of(TIMES) ?? NO_TIME,
  }));
  const wildness = chance.of([0, 1, 10]);
  steps = [...steps, ...records.map(() => drawnSteps(chance, wildness, input === 0))];
  return { input, records };
}

/** Little-endian numbers, without the SDK. */
function numbers(bytes: Uint8Array, width: 4 | 8): number[] {
  assert.equal(bytes.length % width, 0);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length / width }, (_, index) =>
    width === 4 ? view.getUint32(index * 4, true) : Number(view.getBigInt64(index * 8, true)),
  );
}

const little = (some: Iterable<number>): Uint8Array => {
  const all = [...some];
  const view = new DataView(new ArrayBuffer(all.length * 4));
  all.forEach((number, index) => view.setUint32(index * 4, number, true));
  return new Uint8Array(view.buffer);
};

const read = (of: { ends: Uint8Array; bytes: Uint8Array }) => ({ ends: numbers(of.ends, 4), bytes: of.bytes.slice() });
const chosen = (of: Selection, count: number): number[] => (of.tag === "all" ? [...Array(count).keys()] : numbers(of.val, 4));

/** A packed output in the plain form, with copies of all. */
function unpackedOutput(output: PackedOutput, batch: Batch): CallOutput {
  const emissions = output.emissions.map(({ output: port, records, keys, values, timestamps }) => {
    const from = chosen(records, batch.slots.length);
    const filled =
      values.tag === "empty"
        ? { ends: from.map(() => 0), bytes: new Uint8Array(0) }
        : values.tag === "bytes"
          ? read(values.val)
          : read({ ends: values.val.ends, bytes: new Uint8Array(Buffer.from(values.val.text, "utf8")) });
    assert.equal(filled.ends.at(-1) ?? 0, filled.bytes.length);
    assert.ok(from.every((record) => record < batch.slots.length));
    return {
      output: port,
      keys: keys.tag === "same" ? { tag: "input" as const } : { tag: "fresh" as const, val: read(keys.val) },
      slots: from.map((record, index) => (keys.tag === "same" ? batch.slots[record]! : index)),
      values: filled,
      timestamps: timestamps.tag === "same" ? from.map((record) => batch.timestamps[record]!) : numbers(timestamps.val, 8),
    };
  });
  const optional = (of: { present: Uint8Array; ends: Uint8Array; bytes: Uint8Array }) => ({ ...read(of), present: of.present.slice() });
  return {
    emissions,
    values: output.values.map(({ state, slots, values }) => {
      return { state, slots: chosen(slots, batch.keys.ends.length), values: optional(values) };
    }),
    lists: output.lists.map(({ state, cleared, slots, values }) => {
      return { state, cleared: numbers(cleared, 4), slots: numbers(slots, 4), values: read(values) };
    }),
    maps: output.maps.map(({ state, cleared, slots, subKeys, values }) => {
      return { state, cleared: numbers(cleared, 4), slots: numbers(slots, 4), subKeys: read(subKeys), values: optional(values) };
    }),
    rejections: output.rejections,
  };
}

type Call = (exports: Exports, input: number, batch: Batch, states: readonly OptionalColumn[]) => CallOutput;

const plainly: Call = (exports, input, batch, states) => exports.operator.process(input, batch, states);

const packedly: Call = (exports, input, batch, states) => {
  const packed = (of: { ends: ArrayLike<number>; bytes: Uint8Array }) => ({ ends: little(Array.from(of.ends)), bytes: of.bytes });
  const unread = exports.inputColumns.unread().find((port) => port.input === input);
  const times = new BigInt64Array(batch.timestamps.map((time) => BigInt(time)));
  const output = exports.operatorPacked.process(
    input,
    {
      keys: packed(batch.keys),
      slots: little(batch.slots),
      values: packed(unread?.values ? column([]) : batch.values),
      timestamps: unread?.timestamps ? new Uint8Array(0) : new Uint8Array(times.buffer),
    },
    states.map((state) => ({ ...packed(state), present: state.present })),
  );
  return unpackedOutput(output, batch);
};

/** All that is left of some batches: what left by each port, what was rejected, and the states. */
function played(batches: readonly Given[], call: Call): unknown[] {
  next = 0;
  const exports = plugin(Drawn, "drawn", "0.0.0");
  const { states, outputs } = exports.operator.describe();
  const kept = new Kept(states);
  const [left, rejected] = [outputs.map((): unknown[] => []), [] as unknown[]];
  exports.operator.open([]);
  for (const { input, records } of batches) {
    const keys = [...new Set(records.map(({ key }) => key))];
    const batch: Batch = {
      keys: column(keys.map(bytesOfBinary)),
      slots: records.map(({ key }) => keys.indexOf(key)),
      values: column(records.map((record) => record.value)),
      timestamps: records.map(({ time }) => time),
    };
    const current = states.map(({ kind }, state) =>
      kind === "value" ? kept.current(state, keys) : { present: new Uint8Array(0), ...column([]) },
    );
    const before = attach({ state: kept.reads(keys) } as Parameters<typeof attach>[0]);
    const first = next;
    const output = call(exports, input, batch, current);
    attach(before);
    kept.apply(output, keys);
    for (const { output: port, keys: whose, slots, values, timestamps } of output.emissions) {
      assert.ok(slots.length > 0 && slots.length === values.ends.length && slots.length === timestamps.length);
      Array.from(slots).forEach((slot, index) => {
        const key = itemOf(whose.tag === "input" ? batch.keys : whose.val, slot);
        left[port]!.push([binaryOf(key), binaryOf(itemOf(values, index)), timestamps[index]]);
      });
    }
    rejected.push(...output.rejections.map(({ record, reason }) => [first + record, reason]));
  }
  const entries = states.map((_, state) => {
    const { values, lists, maps } = kept.states[state]!;
    const keys = [...new Set([...values.keys(), ...lists.keys(), ...maps.keys()])].sort();
    return keys.map((key) => [key, kept.value(state, key), kept.items(state, key), kept.entries(state, key)]);
  });
  return [left, rejected, entries];
}

test("the packed call, the plain one and one for each record give the same", () => {
  for (let seed = 0; seed < 150; seed++) {
    const chance = new Chance(seed);
    steps = [];
    const batches = Array.from({ length: 4 }, () => drawnBatch(chance));
    const apart = batches.flatMap(({ input, records }) => records.map((record) => ({ input, records: [record] })));
    const expected = played(apart, packedly);
    assert.deepEqual(played(batches, packedly), expected, `packed, seed ${seed}`);
    assert.deepEqual(played(batches, plainly), expected, `plain, seed ${seed}`);
  }
});
