/**
 * Catches an operator that sees another state than that of the record, a write that is lost or doubled, emissions that are out of
 * order, and what a failed call leaves behind.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  type Config,
  Operator,
  type Output,
  type PluginRecord,
  from,
  i32,
  json,
  log,
  metrics,
  raw,
  text,
  uint,
  unit,
} from "floodmark";
import { Task } from "floodmark/testing";

/** Does what the words of each value say, and emits what they ask for. */
class Told extends Operator {
  readonly main = this.output("main");
  readonly side = this.output("side");
  readonly count = this.value("count", uint);
  readonly short = this.value("short", unit, { ttl: "1min" });
  readonly items = this.list("items", text);
  readonly entries = this.map("entries", i32, text);
  private calls = 0;

  process(record: PluginRecord, out: Output): void {
    this.calls++;
    for (const word of record.text.split(" ")) {
      const [what, one = "", two = ""] = word.split(":");
      switch (what) {
        case "count":
          this.count.set((this.count.get() ?? 0) + 1);
          out.emit(this.count.get()!);
          break;
        case "forget":
          this.count.clear();
          break;
        case "short":
          out.emit(this.short.has() ? "again" : "first");
          this.short.set(null);
          break;
        case "push":
          this.items.push(one);
          break;
        case "replace":
          this.items.replace(one.split(","));
          break;
        case "items":
          out.emit(`${this.items.length} ${this.items.isEmpty} ${this.items.toArray().join(",")}`);
          break;
        case "clear":
          this.items.clear();
          this.entries.clear();
          break;
        case "set":
          this.entries.set(Number(one), two);
          break;
        case "delete":
          this.entries.delete(Number(one));
          break;
        case "get":
          out.emit(this.entries.get(Number(one)) ?? "none");
          break;
        case "map":
          out.emit([...this.entries].join(" "));
          break;
        case "range":
          out.emit([...this.entries.entries({ from: Number(one), to: Number(two) })].join(" "));
          break;
        case "ends":
          out.emit([...this.entries.entries({ descending: true }), "|", this.entries.first(), this.entries.last()].join(" "));
          break;
        case "to":
          out.emit(two, { to: one === "side" ? this.side : this.main });
          break;
        case "key":
          out.emit(two, { key: one });
          break;
        case "at":
          out.emit("then", { time: Number(one) });
          break;
        case "reject":
          out.reject(one);
          break;
        case "calls":
          out.emit(this.calls);
          break;
        case "fail":
          throw new Error("as asked");
      }
    }
  }

  override checkpointCompleted(checkpoint: number): void {
    log.debug("completed", checkpoint);
  }
}

const values = (task: Task, ...told: string[]) => task.run(told.map((value) => ["k", value])).map(([, value]) => value);

test("a state is that of the record's key, and lasts", () => {
  const task = new Task(Told);
  assert.deepEqual(
    task.run([
      ["a", "count"],
      ["b", "count"],
      ["a", "count count"],
    ]),
    [
      ["a", "1"],
      ["b", "1"],
      ["a", "2"],
      ["a", "3"],
    ],
  );
  task.kill();
  assert.deepEqual(values(task, "forget count", "count", "forget"), ["1", "2"]);
  assert.equal(task.state("count", "a"), 3);
  assert.equal(task.state("count", "k"), undefined);
});

test("time passes for what has a time to live", () => {
  const task = new Task(Told);
  assert.deepEqual(values(task, "short", "short"), ["first", "again"]);
  task.pass("59s");
  assert.deepEqual(values(task, "short"), ["again"]);
  task.pass(60_000);
  assert.deepEqual(values(task, "short"), ["first"]);
});

test("lists grow at their end, over calls and pages", () => {
  const task = new Task(Told);
  const expected: string[] = [];
  for (let item = 0; item < 10; item++) {
    expected.push(String(item));
    const shown = `${expected.length} false ${expected.join(",")}`;
    assert.deepEqual(values(task, `push:${item} items`), [shown]);
  }
  assert.deepEqual(values(task, "push:x clear push:y items", "clear items"), ["1 false y", "0 true "]);
  assert.deepEqual(values(task, "items push:z replace:p,q push:r items"), ["0 true ", "3 false p,q,r"]);
  task.kill();
  assert.deepEqual(values(task, "items"), ["3 false p,q,r"]);
});

test("maps are in the order of their sub-keys, over what the host has", () => {
  const task = new Task(Told);
  values(task, "set:5:e set:-1:a set:3:c set:100:z set:4:d");
  task.kill();
  assert.deepEqual(values(task, "delete:3 set:4:D set:7:g map", "get:3 get:4 get:-1"), [
    "-1,a 4,D 5,e 7,g 100,z",
    "none",
    "D",
    "a",
  ]);
  assert.deepEqual(values(task, "range:4:100 range:9:1"), ["4,D 5,e 7,g", ""]);
  assert.deepEqual(values(task, "set:6:f ends"), ["100,z 7,g 6,f 5,e 4,D -1,a | -1,a 100,z"]);
  assert.deepEqual(values(task, "clear set:1:x map get:4"), ["1,x", "none"]);
  assert.deepEqual(task.state("entries", "k"), { 1: "x" });
});

test("emissions keep their order, key and time", () => {
  const task = new Task(Told);
  const emitted = task.runOn("in", [
    ["a", "to:main:1", 5],
    ["b", "nothing"],
    ["c", "to:main:2 key:other:3 to:main:4 at:9", 7],
    ["a", "to:side:5 at:0"],
  ]);
  assert.deepEqual(emitted, {
    main: [
      ["a", "1", 5],
      ["c", "2", 7],
      ["other", "3", 7],
      ["c", "4", 7],
      ["c", "then", 9],
      ["a", "then", 0],
    ],
    side: [["a", "5"]],
  });
  assert.deepEqual(
    task.run([
      ["a", "calls", 1],
      ["b", "calls", 2],
      ["a", ""],
    ]),
    [
      ["a", "5", 1],
      ["b", "6", 2],
    ],
  );
});

test("a rejected record leaves the others alone", () => {
  const task = new Task(Told);
  assert.deepEqual(values(task, "count", "reject:no reject:never", "count"), ["1", "2"]);
  assert.deepEqual(task.takeRejected(), [["k", "reject:no reject:never", "no"]]);
});

test("a call that fails leaves nothing behind", () => {
  const task = new Task(Told);
  values(task, "count");
  assert.throws(() => values(task, "count", "push:x set:1:x fail"), /^Error: as asked\n {2}at Told\.process/);
  assert.deepEqual(values(task, "calls", "items", "map", "count"), ["1", "0 true ", "", "2"]);
  assert.throws(() => task.run([["k", new Uint8Array([255])]]), /the value `\\xff` is not UTF-8/);
  assert.throws(() => values(task, "at:0.5"), /0.5 is not an event time/);
  assert.throws(() => task.run([["k", "count", 2 ** 60]]), /beyond 2\^53 ms/);
});

class Options extends Operator {
  private sum = 0;
  override open(config: Config): void {
    this.sum = config.integer("first") + config.integer("second", 5);
  }
  process(_: PluginRecord, out: Output): void {
    out.emit(this.sum);
  }
}

test("options are read and checked", () => {
  const sum = (config: Record<string, string | number>) => new Task(Options, config).run([["k", ""]])[0]![1];
  assert.equal(sum({ first: 1 }), "6");
  assert.equal(sum({ first: 1, second: -3 }), "-2");
  assert.throws(() => sum({}), /^Error: option `first` is missing; set it$/);
  assert.throws(() => sum({ first: "1x" }), /option `first` is `1x`: it is not a whole number/);
  assert.throws(() => sum({ first: 1, secund: 3 }), /unknown option `secund`; this operator knows `first`, `second`/);
  assert.throws(() => new Task(Told, { max: 1 }).run([["k", ""]]), /unknown option `max`; this operator has none/);
});

class Old extends Operator {
  readonly clicks = this.value("clicks", uint);
  readonly log = this.list("log", raw);
  process(record: PluginRecord): void {
    this.clicks.set((this.clicks.get() ?? 0) + 1);
    this.log.push(record.value);
  }
}

class New extends Operator {
  readonly clicks = this.value("clicks", json<{ all: number; errors: number }>(), {
    version: 2,
    migrate: { 1: from(uint, (all) => ({ all, errors: 0 })) },
  });
  readonly log = this.list("log", raw);
  process(_: PluginRecord, out: Output): void {
    out.emit(`${this.clicks.get()?.all} ${this.log.length}`);
  }
}

class Newer extends Operator {
  readonly clicks = this.value("clicks", uint, { version: 3 });
  process(): void {}
}

test("a new version takes over what an older one kept", () => {
  const task = new Task(Old);
  task.run([
    ["k", "a"],
    ["k", "b"],
  ]);
  task.upgrade(New);
  assert.deepEqual(task.run([["k", ""]]), [["k", "2 2"]]);
  assert.deepEqual(task.state("clicks", "k"), { all: 2, errors: 0 });
  assert.throws(() => task.upgrade(Newer), /state `clicks` is declared in version 3 and says nothing of version 2; add/);
});

class Talks extends Operator {
  process(record: PluginRecord, out: Output): void {
    switch (record.text) {
      case "time":
        out.emit(Date.now());
        break;
      case "date":
        out.emit(String(new Date()));
        break;
      case "random":
        out.emit(Math.random());
        break;
      case "given":
        out.emit(new Date(0).toISOString());
        break;
      default:
        console.log("hello", { n: 1n });
        console.warn(new Error("careful"));
        metrics.add("seen");
        metrics.add("seen", 2);
        metrics.set("level", 0.5);
        metrics.observe("size", 3);
        if (record.text === "fail") {
          throw new Error("as asked");
        }
    }
  }
}

test("there is a log, and neither clock nor randomness", () => {
  const task = new Task(Talks);
  for (const what of ["time", "date", "random"]) {
    assert.throws(() => task.run([["k", what]]), /there is no `.*` in an operator: a replay/);
  }
  assert.deepEqual(task.run([["k", "given"]]), [["k", "1970-01-01T00:00:00.000Z"]]);
  assert.equal(typeof Date.now(), "number");
  task.run([["k", ""]]);
  assert.deepEqual(task.takeLog(), [
    ["info", 'hello {"n":"1n"}'],
    ["warn", "Error: careful"],
  ]);
  assert.throws(() => task.run([["k", "fail"]]));
  task.run([["k", ""]]);
  assert.deepEqual(task.takeMetrics(), { seen: 6, level: 0.5, size: [3, 3] });
  const told = new Task(Told);
  told.checkpoint(1);
  values(told, "");
  told.checkpoint(2);
  assert.deepEqual(told.takeLog(), [["debug", "completed 2"]]);
});

test("what is declared wrongly is refused at once", () => {
  const declaring = (declare: (of: { value: Operator["value"]; output: Operator["output"] }) => void) => {
    class Wrong extends Operator {
      readonly all = declare(this as unknown as { value: Operator["value"]; output: Operator["output"] });
      process(): void {}
    }
    return () => new Task(Wrong);
  };
  assert.throws(declaring((of) => (of.value("a", uint), of.value("a", uint))), /two of the operator's states/);
  assert.throws(declaring((of) => of.value("A", uint)), /has no proper name/);
  assert.throws(declaring((of) => of.value("a", uint, { ttl: "soon" })), /the ttl of state `a` is `soon`; write/);
});
