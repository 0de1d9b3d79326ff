/**
 * Catches "all" where a record emitted twice or not at all and where a slot was not written, a key, time or value that leaves
 * although it is the same, and a column that is handed over or asked for although it is unread.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Operator, type Output, type PluginRecord, int, text, uint } from "floodmark";
import { Task } from "floodmark/testing";
import type { PackedBatch, PackedOutput, Selection } from "../src/host.js";
import { bytesOf, packed, packedOptional, u32s } from "../src/packed.js";
import { type OperatorClass, column, plugin } from "../src/plugin.js";

type Act = (of: Acts, out: Output, record: PluginRecord) => void;

let acts: readonly Act[] = [];

class Acts extends Operator {
  readonly seeing = this.input("seeing");
  readonly blind = this.input("blind", { unread: ["value", "time"] });
  readonly main = this.output("main");
  readonly side = this.output("side");
  readonly count = this.value("count", uint);
  readonly name = this.value("name", text);
  private next = 0;

  process(record: PluginRecord, out: Output): void {
    acts[this.next++]!(this, out, record);
  }
}

const times = (...some: bigint[]) => new Uint8Array(new BigInt64Array(some).buffer);

/** A batch with a key for each record, `a`, `b` and so on, and times from 1. */
function batch(records: number): PackedBatch {
  const all = [...Array(records).keys()];
  return {
    keys: packed(column(all.map((at) => String.fromCharCode(97 + at)))),
    slots: bytesOf(all),
    values: packed(column(all.map((at) => `v${at}`))),
    timestamps: times(...all.map((at) => BigInt(at + 1))),
  };
}

const shownSelection = (of: Selection): string => (of.tag === "all" ? "all" : `[${u32s(of.val).join()}]`);

/** An output as text: by emission port, records, keys, values and times, by write state, slots and values. */
function shown({ emissions, values, rejections }: PackedOutput): string {
  const emitted = emissions.map(({ output, records, keys, values: of, timestamps }) => {
    const key = keys.tag === "same" ? "" : ` keys ${Buffer.from(keys.val.bytes).toString()}`;
    const all = of.tag === "empty" ? "" : of.tag === "text" ? `"${of.val.text}"` : `<${of.val.bytes}>`;
    const what = of.tag === "empty" ? "empty" : `${all} ${u32s(of.val.ends)}`;
    const time = timestamps.tag === "same" ? "" : ` times ${new BigInt64Array(timestamps.val.slice().buffer).join()}`;
    return `${output}:${shownSelection(records)} ${what}${key}${time}`;
  });
  const written = values.map(
    ({ state, slots, values: of }) => `state ${state}:${shownSelection(slots)} <${of.bytes}> |${of.present}|`,
  );
  return [...emitted, ...written, ...rejections.map(({ record, reason }) => `no ${record} ${reason}`)].join("; ");
}

const CURRENT = { present: Uint8Array.of(7), ends: [1, 2, 4], bytes: Uint8Array.of(5, 6, 172, 2) };

/** What records do, each its own, and what leaves. */
function check(expected: string, ...of: Act[]): void {
  acts = of;
  const { operator, operatorPacked } = plugin(Acts, "acts", "0.0.0");
  operator.open([]);
  const nothing = { present: Uint8Array.of(0), ends: [0, 0, 0], bytes: new Uint8Array(0) };
  const output = operatorPacked.process(0, batch(of.length), [packedOptional(CURRENT), packedOptional(nothing)]);
  assert.equal(shown(output), expected);
}

const silent: Act = () => {};
const one: Act = (_, out) => out.emit(1);

test("records are all only if each emitted once, in order", () => {
  check('0:all "111" 1,2,3', one, one, one);
  check("", silent, silent, silent);
  check('0:[0,0] "11" 1,2', (of, out) => (one(of, out, null!), out.emit("1")), silent);
  check('0:[0,0,1] "111" 1,2,3', (of, out) => (one(of, out, null!), one(of, out, null!)), one);
  check('0:[0] "1" 1', one, silent, silent);
  check('0:[1,2] "11" 1,2', silent, one, one);
  check('0:[0,2] "11" 1,2', one, silent, one);
  check('0:[0,2,2] "111" 1,2,3', one, silent, (of, out) => (one(of, out, null!), one(of, out, null!)));
  const side: Act = (of, out) => out.emit(2, { to: of.side });
  check('0:[0,2] "11" 1,2; 1:[1] "2" 1', one, side, one);
  check('1:all "222" 1,2,3', side, side, side);
});

test("values are text as long as all are, and nothing if all are empty", () => {
  check("0:all empty", (_, out) => out.emit(""), (_, out) => out.emit(new Uint8Array(0)));
  check('0:all "aä👍-0.5" 1,3,7,11', ...["a", "ä", "👍", -0.5].map((what): Act => (_, out) => out.emit(what)));
  check("0:all <195,164,1,55,0> 2,3,4,5", ...["ä", Uint8Array.of(1), 7, Uint8Array.of(0)].map((what): Act => (_, out) => out.emit(what)));
  check('0:all "90071992547409930" 16,17', (_, out) => out.emit(2n ** 53n + 1n), (_, out) => out.emit(-0));
});

test("keys and times are written down only if one is another", () => {
  check('0:all "111" 1,2,3 keys abx', one, one, (_, out) => out.emit(1, { key: "x" }));
  check('0:all "111" 1,2,3 keys xbc', (_, out) => out.emit(1, { key: "x" }), one, one);
  check('0:all "11" 1,2 times 1,-5', one, (_, out) => out.emit(1, { time: -5 }));
  check(`0:[1,2] "11" 1,2 times ${-(2n ** 63n)},3`, silent, (_, out) => out.emit(1, { time: null }), one);
});

test("slots are all only if each was written", () => {
  const set: Act = (of) => of.count.set((of.count.get() ?? 0) + 1);
  check("state 0:all <6,7,173,2> |7|", set, set, set);
  check("state 0:[0,2] <6,173,2> |3|", set, silent, set);
  check("state 0:[1] <> |0|", silent, (of) => of.count.clear(), silent);
  check("state 0:all <9,1> |5|", (of) => of.count.set(9), (of) => of.count.clear(), (of) => of.count.set(1));
  check("state 0:[1,2] <3,255,255,255,255,255,255,255,15> |3|", silent, (of) => of.count.set(3), (of) => of.count.set(2 ** 53 - 1));
  check("state 1:[2] <1,97> |1|", silent, silent, (of) => of.name.set("a"));
  check('0:[1] "6" 1; state 0:[0] <1> |1|', (of) => of.count.set(1), (of, out) => out.emit(of.count.get()!), silent);
  check("no 0 never", (_, out) => out.reject("never"), silent, silent);
});

class Signed extends Operator {
  readonly all = this.value("all", int);
  process(_: PluginRecord, out: Output): void {
    out.emit(this.all.get() ?? "none");
  }
}

test("values are read as they are written, and what is none is named", () => {
  const { operator, operatorPacked } = plugin(Signed, "signed", "0.0.0");
  operator.open([]);
  const state = (...items: number[][]) => packedOptional({ present: Uint8Array.of(7), ...column(items.map((item) => Uint8Array.from(item))) });
  const told = (...items: number[][]) => shown(operatorPacked.process(0, batch(3), [state(...items)]));
  assert.equal(told([0], [1], [254, 127]), '0:all "0-18191" 1,3,7');
  assert.equal(told([255, 127], [128, 128, 1], [255, 255, 255, 255, 31]), '0:all "-81928192-4294967296" 5,9,20');
  assert.throws(() => told([1], [], [1]), /state `all` of key `b` does not decode as version 1 of `int`: it ends within a number/);
  operator.open([]);
  assert.throws(() => told([1], [1, 1], [1]), /key `b` does not decode .* 1 bytes are left over/);
});

test("what is unread does not come, and is refused by name", () => {
  const blind = new Task(Acts);
  const run = (...of: Act[]) => {
    acts = of;
    blind.kill();
    return blind.runOn("blind", of.map((_, at) => [`k${at}`, `v${at}`, at + 1]));
  };
  const exports = plugin(Acts, "acts", "0.0.0");
  assert.deepEqual(exports.inputColumns.unread(), [{ input: 1, values: true, timestamps: true }]);
  // Emissions have the times of their records all the same, also beside others.
  const at = (time: number): Act => (_, out) => out.emit(2, { time });
  assert.deepEqual(run(one, at(9), at(8), one)["main"], [["k0", "1", 1], ["k1", "2", 9], ["k2", "2", 8], ["k3", "1", 4]]);
  assert.deepEqual(run((_, out, { keyText }) => out.emit(keyText))["main"], [["k0", "k0", 1]]);
  for (const read of [(record: PluginRecord) => record.value, (record: PluginRecord) => record.text, (record: PluginRecord) => record.tryText()]) {
    assert.throws(
      () => run((_, _out, record) => void read(record)),
      /records of input `blind` come without their value: take "value" out of the `unread` of `this.input\("blind", ..\)`/,
    );
  }
  assert.throws(() => run((_, _out, record) => void record.time), /without their time: take "time" out/);
  // A plain call brings everything, and is no other.
  exports.operator.open([]);
  acts = [(_, _out, record) => void record.time];
  const plain = { keys: column(["a"]), slots: [0], values: column(["v"]), timestamps: [1] };
  const states = [CURRENT, CURRENT].map(({ bytes }) => ({ present: Uint8Array.of(0), ends: [0], bytes: bytes.subarray(0, 0) }));
  assert.throws(() => exports.operator.process(1, plain, states), (error) => String(error).includes("without their time"));
  class Wrong extends Operator {
    readonly all = this.input("all", { unread: ["key" as "value"] });
    process(): void {}
  }
  assert.throws(() => new Task(Wrong), /input `all` says that `key` is unread; name "value", "time" or both/);
});

class Passing extends Operator {
  process(record: PluginRecord, out: Output): void {
    out.emit(record.text === "look" ? String(record.time) : "", record.text === "shift" ? { time: 1 } : undefined);
  }
}

test("a time that no number holds is passed on, and refused where it is read", () => {
  const { operator, operatorPacked } = plugin(Passing, "passing", "0.0.0");
  const given = (value: string, time: bigint) => ({ ...batch(2), values: packed(column(["", value])), timestamps: times(time, time) });
  const told = (value: string, time: bigint) => (operator.open([]), shown(operatorPacked.process(0, given(value, time), [])));
  for (const time of [2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 63n - 1n, -(2n ** 63n) + 1n]) {
    assert.equal(told("", time), "0:all empty");
    assert.equal(told("shift", time), `0:all empty times ${time},1`);
    assert.throws(() => told("look", time), /is beyond 2\^53 ms/);
    const plain = { keys: column(["a"]), slots: [0], values: column([""]), timestamps: [Number(time)] };
    if (Number(time) !== -(2 ** 63)) {
      assert.throws(() => operator.process(0, plain, []), /is beyond 2\^53 ms/);
    }
  }
  assert.equal(told("look", -(2n ** 63n)), '0:all "undefined" 0,9');
  assert.equal(told("look", -(2n ** 53n) + 1n), '0:all "-9007199254740991" 0,17');
});

class Echo extends Operator {
  process(record: PluginRecord, out: Output): void {
    out.emit(record.tryText() ?? record.value);
  }
}

test("a text is that of its record, whatever stands beside it", () => {
  for (const values of [["a", "", "b".repeat(100)], ["ä", "plain", "👍", "", "z"], ["a", Uint8Array.of(200, 1), "é"]]) {
    const records = values.map((value): [string, string | Uint8Array] => ["k", value]);
    assert.deepEqual(new Task(Echo).run(records), records);
  }
});

class Keeps extends Operator {
  static kept: { record: PluginRecord; out: Output; of: Keeps } | undefined;
  readonly count = this.value("count", uint);
  process(record: PluginRecord, out: Output): void {
    Keeps.kept = { record, out, of: this };
  }
}

test("nothing of a call can be used after it", () => {
  const task = new Task(Keeps as OperatorClass);
  task.run([["k", "v", 1]]);
  const { record, out, of } = Keeps.kept!;
  for (const late of [() => record.key, () => record.value, () => record.text, () => record.time]) {
    assert.throws(late, /a record belongs to a call/);
  }
  for (const late of [() => out.emit(1), () => out.emit("a"), () => out.emit(1, { key: "k" }), () => out.reject("no")]) {
    assert.throws(late, /what is emitted or rejected belongs to a record/);
  }
  for (const late of [() => of.count.get(), () => of.count.set(1), () => of.count.clear()]) {
    assert.throws(late, /state `count` belongs to a record/);
  }
  assert.deepEqual(task.run([["k", "v"]]), []);
});
