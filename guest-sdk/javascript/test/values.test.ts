/**
 * Catches values that depend on where a batch ends: those that were changed in place, and those that a later call reads
 * differently; and values that fail later than the line that gives them.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  type Codec,
  Operator,
  type Output,
  type PluginRecord,
  bool,
  f64,
  i32,
  i64,
  i8,
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
import { Task } from "floodmark/testing";

type Step = (of: Acts, out: Output) => void;

/** Each record's value is the index of what to do. */
let steps: readonly Step[] = [];

/** What a user's own codec looks like. */
const names: Codec<string[]> = {
  name: "names",
  encode: (value, into) => into.appendText(value.join(",")),
  decode: (bytes, start, end) => Buffer.from(bytes.subarray(start, end)).toString().split(","),
  toJson: (bytes, start, end) => JSON.stringify(Buffer.from(bytes.subarray(start, end)).toString()),
  fromJson: (written, into) => into.appendText(JSON.parse(written) as string),
};

class Acts extends Operator {
  readonly json = this.value("json", json<any>());
  readonly raw = this.value("raw", raw);
  readonly names = this.value("names", names);
  readonly jsons = this.map("jsons", text, json<any>());
  readonly raws = this.map("raws", uint, raw);
  readonly items = this.list("items", json<any>());
  readonly bool = this.value("bool", bool);
  readonly f64 = this.value("f64", f64);
  readonly i8 = this.value("i8", i8);
  readonly i32 = this.value("i32", i32);
  readonly i64 = this.value("i64", i64);
  readonly int = this.value("int", int);
  readonly text = this.value("text", text);
  readonly u8 = this.value("u8", u8);
  readonly u64 = this.value("u64", u64);
  readonly uint = this.value("uint", uint);
  readonly unit = this.value("unit", unit);
  readonly uints = this.map("uints", text, uint);
  readonly counts = this.list("counts", uint);
  readonly pairs = this.map("pairs", tuple(u8, text), unit);

  process(record: PluginRecord, out: Output): void {
    steps[Number(record.text)]!(this, out);
  }
}

/** What the steps emit, once as one batch and once as a batch each; both have to be the same. */
function emitted(...told: Step[]): string[] {
  steps = told;
  const records = told.map((_, index): [string, string] => ["k", String(index)]);
  const [together, apart] = [new Task(Acts), new Task(Acts)];
  const one = together.run(records).map(([, value]) => String(value));
  const each = records.flatMap((record) => apart.run([record])).map(([, value]) => String(value));
  assert.deepEqual(one, each);
  for (const { name } of together.description.states) {
    assert.deepEqual(together.state(name, "k"), apart.state(name, "k"), name);
  }
  return one;
}

const show = (out: Output, value: unknown): void => out.emit(value === undefined ? "none" : JSON.stringify(value));

test("a value that is changed in place after `get` is as it was", () => {
  const seen = emitted(
    (of) => of.json.set({ n: 1 }),
    (of) => (of.json.get().n = 2),
    (of, out) => show(out, of.json.get()),
    (of) => of.raw.set(Uint8Array.of(1, 2)),
    (of) => (of.raw.get()![0] = 9),
    (of, out) => show(out, [...of.raw.get()!]),
    (of) => of.names.set(["a"]),
    (of) => of.names.get()!.push("b"),
    (of, out) => show(out, of.names.get()),
  );
  assert.deepEqual(seen, ['{"n":1}', "[1,2]", '["a"]']);
});

test("a value that is changed in place after `set` is as it was given", () => {
  const seen = emitted(
    (of, out) => {
      const [value, bytes] = [{ n: 1 }, Uint8Array.of(1)];
      of.json.set(value);
      of.raw.set(bytes);
      of.jsons.set("a", value);
      of.raws.set(1, bytes);
      of.items.push(value);
      value.n = 2;
      bytes[0] = 2;
      show(out, [of.json.get(), of.raw.get()![0], of.jsons.get("a"), of.raws.get(1)![0], of.items.toArray()]);
    },
    (of, out) => show(out, [of.json.get(), of.raw.get()![0], of.jsons.get("a"), of.raws.get(1)![0], of.items.toArray()]),
  );
  const expected = '[{"n":1},1,{"n":1},1,[{"n":1}]]';
  assert.deepEqual(seen, [expected, expected]);
});

test("an entry that is changed in place is as it was, however it was read", () => {
  const seen = emitted(
    (of) => (of.jsons.set("a", { n: 1 }), of.jsons.set("b", { n: 1 }), of.raws.set(1, Uint8Array.of(1))),
    (of) => {
      of.jsons.get("a").n = 2;
      of.jsons.first()![1].n = 3;
      for (const [, value] of of.jsons) {
        value.n = 4;
      }
      of.raws.get(1)![0] = 2;
      of.raws.last()![1][0] = 3;
    },
    (of, out) => show(out, [[...of.jsons], of.raws.get(1)![0], [...of.raws].map(([key, value]) => [key, ...value])]),
    (of) => of.jsons.delete("a"),
    (of, out) => show(out, [of.jsons.has("a"), of.jsons.has("b")]),
  );
  assert.deepEqual(seen, ['[[["a",{"n":1}],["b",{"n":1}]],1,[[1,1]]]', "[false,true]"]);
});

test("what one record changed in place is not written because another one calls `set`", () => {
  const seen = emitted(
    (of) => of.json.set([1]),
    (of) => {
      const value = of.json.get();
      of.json.set(value);
      value.push(2);
    },
    (of, out) => show(out, of.json.get()),
  );
  assert.deepEqual(seen, ["[1]"]);
});

test("a value reads in the same call as in a later one", () => {
  const rough = { n: NaN, d: new Date(0), u: undefined };
  const read: Step = (of, out) => show(out, [of.json.get(), "u" in of.json.get(), of.jsons.get("a"), of.items.toArray()]);
  const seen = emitted(
    (of, out) => (of.json.set(rough), of.jsons.set("a", rough), of.items.push(rough), read(of, out)),
    read,
  );
  const kept = '{"n":null,"d":"1970-01-01T00:00:00.000Z"}';
  assert.deepEqual(seen, Array(2).fill(`[${kept},false,${kept},[${kept}]]`));

  const zeros: Step = (of, out) =>
    out.emit([of.uint.get(), of.int.get(), of.i8.get(), of.uints.get("a"), of.f64.get()].map((n) => Object.is(n, -0)).join());
  const signs = emitted(
    (of, out) => (of.uint.set(-0), of.int.set(-0), of.i8.set(-0), of.uints.set("a", -0), of.f64.set(-0), zeros(of, out)),
    zeros,
  );
  assert.deepEqual(signs, Array(2).fill("false,false,false,false,true"));
});

test("what is set, cleared and set again is the last of it", () => {
  const seen = emitted(
    (of) => (of.json.set([1]), of.uint.set(1), of.text.set("ä")),
    (of, out) => (of.json.clear(), of.uint.clear(), show(out, [of.json.has(), of.uint.has(), of.text.get()])),
    (of) => (of.json.set(null), of.uint.set(300), of.unit.set(null)),
    (of, out) => show(out, [of.json.get(), of.json.has(), of.uint.get(), of.unit.get(), of.unit.has()]),
  );
  assert.deepEqual(seen, ['[false,false,"ä"]', "[null,true,300,null,true]"]);
});

const any = (value: unknown): any => value;
const circle: unknown[] = [];
circle.push(circle);

const REFUSED: readonly [state: string, type: string, Step][] = [
  ["uint", "uint", (of) => of.uint.set(-1)],
  ["uint", "uint", (of) => of.uint.set(any(true))],
  ["uint", "uint", (of) => of.uint.set(any("1"))],
  ["uint", "uint", (of) => of.uint.set(any(undefined))],
  ["uint", "uint", (of) => of.uint.set(any(Object.create(null)))],
  ["uint", "uint", (of) => of.uint.set(0.5)],
  ["uint", "uint", (of) => of.uint.set(2 ** 53)],
  ["int", "int", (of) => of.int.set(NaN)],
  ["u8", "u8", (of) => of.u8.set(256)],
  ["i8", "i8", (of) => of.i8.set(-129)],
  ["i32", "i32", (of) => of.i32.set(2 ** 31)],
  ["u64", "u64", (of) => of.u64.set(any(1))],
  ["u64", "u64", (of) => of.u64.set(-1n)],
  ["i64", "i64", (of) => of.i64.set(1n << 63n)],
  ["bool", "bool", (of) => of.bool.set(any(1))],
  ["f64", "f64", (of) => of.f64.set(any("1"))],
  ["text", "text", (of) => of.text.set("\ud800")],
  ["text", "text", (of) => of.text.set(any(5))],
  ["unit", "unit", (of) => of.unit.set(any(true))],
  ["raw", "raw", (of) => of.raw.set(any("text"))],
  ["raw", "raw", (of) => of.raw.set(any([1, 2]))],
  ["json", "json", (of) => of.json.set(undefined)],
  ["json", "json", (of) => of.json.set(1n)],
  ["json", "json", (of) => of.json.set(circle)],
  ["jsons", "json", (of) => of.jsons.set("a", () => 1)],
  ["jsons", "text", (of) => of.jsons.set("\udfff", 1)],
  ["jsons", "text", (of) => of.jsons.get(any(5))],
  ["raws", "raw", (of) => of.raws.set(1, any(new ArrayBuffer(1)))],
  ["raws", "uint", (of) => of.raws.set(-1, new Uint8Array(1))],
  ["uints", "uint", (of) => of.uints.set("a", -1)],
  ["pairs", "tuple(u8, text)", (of) => of.pairs.set([256, "a"], null)],
  ["pairs", "tuple(u8, text)", (of) => of.pairs.set(any(5), null)],
  ["pairs", "tuple(u8, text)", (of) => of.pairs.set(any([1, "a", 2]), null)],
  ["counts", "uint", (of) => of.counts.push(1, -1)],
  ["counts", "uint", (of) => of.counts.replace([1, any("2")])],
];

test("what cannot be kept fails where it is given, and leaves what was there", () => {
  const fill: Step = (of) => {
    of.uint.set(1);
    of.text.set("a");
    of.json.set([1]);
    of.jsons.set("a", [1]);
    of.uints.set("a", 1);
    of.counts.push(1);
  };
  const look: Step = (of, out) =>
    show(out, [of.uint.get(), of.text.get(), of.json.get(), [...of.jsons], [...of.uints], [...of.counts], [...of.pairs]]);
  for (const [state, type, step] of REFUSED) {
    const seen = emitted(
      fill,
      (of, out) => {
        try {
          step(of, out);
          out.emit("it passed");
        } catch (error) {
          const { message, stack } = error as Error;
          out.emit(message);
          assert.match(stack!, /\n +at Acts\.process /);
        }
      },
      look,
    );
    assert.ok(seen[0]!.includes(`state \`${state}\``) && seen[0]!.includes(`\`${type}\``), `${String(step)}: ${seen[0]}`);
    assert.equal(seen[1], '[1,"a",[1],[["a",[1]]],[["a",1]],[1],[]]', String(step));
  }
});
