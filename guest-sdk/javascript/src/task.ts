/**
 * One simulated task of an operator: an instance, which can be killed, and the state, which stays.
 *
 * It takes the same path as a component, from the columns of the contract to the columns of the contract, and the world is as
 * closed. It has no limits, no failures of its own and no checkpoints.
 */

import { binaryOf, bytesOfBinary, textIfUtf8, utf8 } from "./bytes.js";
import { closeWorld } from "./closed.js";
import { type CallOutput, type Column, type Description, type Host, type Level, attach } from "./host.js";
import { Kept, itemOf } from "./kept.js";
import { NO_TIME, packed, packedOptional, unpacked } from "./packed.js";
import { packedBatch, plainOutput } from "./plain.js";
import { type Exports, type OperatorClass, column, plugin } from "./plugin.js";
import { milliseconds } from "./state.js";

type Data = string | Uint8Array;

/** A record that a test hands over: key, value, and a time if it has one. */
export type Given = readonly [key: Data, value: Data, time?: number];

/** A record that was emitted: text where its bytes are some, and the time only if it has one. */
export type Received = [key: Data, value: Data] | [key: Data, value: Data, time: number];

export class Task {
  private made: OperatorClass;
  private instance: Exports | undefined;
  private described: Description;
  private kept: Kept;
  private readonly config: readonly [string, string][];
  private rejected: [Data, Data, string][] = [];
  private lines: [Level, string][] = [];
  private numbers: Record<string, number | number[]> = {};

  constructor(made: OperatorClass, config: Readonly<Record<string, string | number | boolean>> = {}) {
    this.made = made;
    this.config = Object.entries(config).map(([name, value]) => [name, String(value)]);
    this.described = plugin(made, "tested", "0.0.0").operator.describe();
    this.kept = new Kept(this.described.states);
  }

  /** What the operator declares. */
  get description(): Description {
    return this.described;
  }

  /** Processes records of the first input as one batch; returns what left by the first output. */
  run(records: readonly Given[]): Received[] {
    return this.runOn(this.described.inputs[0]!, records)[this.described.outputs[0]!]!;
  }

  /**
   * Processes records of an input as one batch; returns what was emitted, by output. Throws the operator's error if it fails;
   * the state does not change then.
   */
  runOn(input: string, records: readonly Given[]): Record<string, Received[]> {
    const position = this.described.inputs.indexOf(input);
    if (position < 0) {
      throw new Error(`there is no input \`${input}\`; there are \`${this.described.inputs.join("`, `")}\``);
    }
    const all = records.map(([key]) => (typeof key === "string" ? binaryOf(utf8(key)) : binaryOf(key)));
    const keys = [...new Set(all)];
    const slots = all.map((key) => keys.indexOf(key));
    const batch = packedBatch({
      keys: column(keys.map(bytesOfBinary)),
      slots,
      values: column(records.map(([, value]) => value)),
      timestamps: records.map(([, , time]) => time ?? NO_TIME),
    });
    const states = this.described.states.map((state, index) =>
      packedOptional(state.kind === "value" ? this.kept.current(index, keys) : { present: new Uint8Array(0), ...column([]) }),
    );
    const metrics: [string, number | number[]][] = [];
    const output = this.within(this.host(keys, metrics), () => {
      if (this.instance === undefined) {
        const fresh = plugin(this.made, "tested", "0.0.0");
        fresh.operator.open(this.config);
        this.instance = fresh;
      }
      const { inputColumns, operatorPacked } = this.instance;
      const unread = inputColumns.unread().find(({ input }) => input === position);
      const given = {
        ...batch,
        values: unread?.values ? packed(column([])) : batch.values,
        timestamps: unread?.timestamps ? new Uint8Array(0) : batch.timestamps,
      };
      return plainOutput(operatorPacked.process(position, given, states), batch);
    });
    this.kept.apply(output, keys);
    metrics.forEach(([name, value]) => this.count(name, value));
    for (const { record, reason } of output.rejections) {
      this.rejected.push([shown(utf8Of(records[record]![0])), shown(utf8Of(records[record]![1])), reason]);
    }
    return this.received(output, unpacked(batch.keys));
  }

  /** Drops the instance, as the host may between any two batches. The next batch gets a fresh one with the same state. */
  kill(): void {
    this.instance = undefined;
  }

  /** Lets time pass, such as `"1h"` or milliseconds, for states with a time to live. */
  pass(time: string | number): void {
    this.kept.nowMs += milliseconds(time, "the time to pass");
  }

  /** Tells the instance, if there is one, that a checkpoint is durable, or was aborted. */
  checkpoint(checkpoint: number, outcome: "completed" | "aborted" = "completed"): void {
    this.within(this.host([], []), () => this.instance?.checkpointListener[outcome](checkpoint));
  }

  /** What a state has for a key, as tools show it: a value, an array of items, or an object of entries by sub-key. */
  state(name: string, key: Data): unknown {
    const position = this.described.states.findIndex((state) => state.name === name);
    if (position < 0) {
      throw new Error(`there is no state \`${name}\``);
    }
    const at = binaryOf(utf8Of(key));
    const { stateValues } = plugin(this.made, "tested", "0.0.0");
    const json = (bytes: Uint8Array, part: "value" | "sub-key"): unknown => {
      const written = stateValues.toJson(position, part, column([bytes]));
      return JSON.parse(textIfUtf8(written.bytes) ?? "null");
    };
    switch (this.described.states[position]!.kind) {
      case "value": {
        const bytes = this.kept.value(position, at);
        return bytes === undefined ? undefined : json(bytes, "value");
      }
      case "list":
        return this.kept.items(position, at).map((bytes) => json(bytes, "value"));
      case "map": {
        const entries = this.kept.entries(position, at);
        return Object.fromEntries(
          entries.map(([subKey, bytes]): [string, unknown] => {
            const shownKey = json(bytesOfBinary(subKey), "sub-key");
            return [typeof shownKey === "string" ? shownKey : JSON.stringify(shownKey), json(bytes, "value")];
          }),
        );
      }
    }
  }

  /** The records that were rejected since the last call: key, value and reason. */
  takeRejected(): [Data, Data, string][] {
    return this.rejected.splice(0);
  }

  /** The lines that were logged since the last call: level and message. */
  takeLog(): [Level, string][] {
    return this.lines.splice(0);
  }

  /** The sums of counters, last values of gauges and all values of histograms since the last call. */
  takeMetrics(): Record<string, number | number[]> {
    const taken = this.numbers;
    this.numbers = {};
    return taken;
  }

  /** Switches to another version of the operator, as a swap does. States keep what they have; older ones are migrated. */
  upgrade(made: OperatorClass): void {
    const exports = plugin(made, "tested", "0.0.0");
    const described = exports.operator.describe();
    const kept = new Kept(described.states);
    kept.nowMs = this.kept.nowMs;
    described.states.forEach((state, position) => {
      const before = this.described.states.findIndex(({ name }) => name === state.name);
      if (before < 0) {
        return;
      }
      const { kind, version } = this.described.states[before]!;
      if (kind !== state.kind) {
        throw new Error(`state \`${state.name}\` is kept as another kind`);
      }
      const of = this.kept.states[before]!;
      if (version !== state.version) {
        exports.stateValues.migrate(position, version, column([]));
        const cells = [...of.values.values(), ...of.lists.values(), ...[...of.maps.values()].map((map) => [...map.values()])];
        for (const cell of cells.flat()) {
          cell.bytes = itemOf(exports.stateValues.migrate(position, version, column([cell.bytes])), 0).slice();
        }
      }
      kept.states[position] = of;
    });
    [this.made, this.described, this.kept, this.instance] = [made, described, kept, undefined];
  }

  private host(keys: readonly string[], into: [string, number | number[]][]): Host {
    return {
      state: this.kept.reads(keys),
      log: { line: (level, message) => void this.lines.push([level, message]) },
      metrics: {
        add: (name, delta) => void into.push([name, (typeof this.numbers[name] === "number" ? this.numbers[name] : 0) + delta]),
        set: (name, value) => void into.push([name, value]),
        observe: (name, values) => void into.push([name, Array.from(values)]),
      },
    };
  }

  private count(name: string, value: number | number[]): void {
    const before = this.numbers[name];
    this.numbers[name] = Array.isArray(value) && Array.isArray(before) ? [...before, ...value] : value;
  }

  /** Acts with this host and a closed world. Errors of the contract are texts; a test wants errors. */
  private within<T>(host: Host, act: () => T): T {
    const before = attach(host);
    const open = closeWorld();
    try {
      return act();
    } catch (error) {
      this.instance = undefined;
      throw typeof error === "string" ? new Error(error) : error;
    } finally {
      open();
      attach(before);
    }
  }

  private received(output: CallOutput, inputKeys: Column): Record<string, Received[]> {
    const received: Record<string, Received[]> = {};
    this.described.outputs.forEach((name) => (received[name] = []));
    for (const { output: port, keys, slots, values, timestamps } of output.emissions) {
      const from = keys.tag === "input" ? inputKeys : keys.val;
      if (slots.length !== values.ends.length || timestamps.length !== slots.length) {
        throw new Error("the operator returned columns of different lengths");
      }
      slots.forEach((slot: number, index: number) => {
        const record: [Data, Data] = [shown(itemOf(from, slot)), shown(itemOf(values, index))];
        const time = timestamps[index]!;
        received[this.described.outputs[port]!]!.push(time === NO_TIME ? record : [...record, time]);
      });
    }
    return received;
  }
}

function utf8Of(data: Data): Uint8Array {
  return typeof data === "string" ? utf8(data) : data;
}

/** Text where the bytes are some. */
function shown(bytes: Uint8Array): Data {
  return textIfUtf8(bytes) ?? bytes.slice();
}
