/**
 * Makes the exports of a component of an operator.
 *
 * After an error an operator may have seen half of a batch, so it is dropped, and the next call gets a fresh one.
 */

import { Bytes, Ends, binaryOf, startOf, utf8 } from "./bytes.js";
import { Config } from "./config.js";
import { textIfUtf8 } from "./bytes.js";
import type {
  Batch,
  CallOutput,
  Column,
  Description,
  OptionalColumn,
  PackedBatch,
  PackedOptionalColumn,
  PackedOutput,
  UnreadColumns,
} from "./host.js";
import { Operator, PluginRecord } from "./operator.js";
import { Output } from "./output.js";
import { eachRecord } from "./place.js";
import { packedBatch, packedStates, plainOutput } from "./plain.js";
import { beginMetrics, finishMetrics } from "./report.js";
import { type State, because } from "./state.js";

export type OperatorClass = new () => Operator;
export type Part = "value" | "sub-key";

/** An error has at most so many lines of its stack. */
const STACK_LINES = 8;

/** The exports of the contract. */
export interface Exports {
  operator: {
    describe(): Description;
    open(config: readonly (readonly [string, string])[]): void;
    process(input: number, records: Batch, states: readonly OptionalColumn[]): CallOutput;
  };
  operatorPacked: {
    process(input: number, records: PackedBatch, states: readonly PackedOptionalColumn[]): PackedOutput;
  };
  inputColumns: {
    unread(): UnreadColumns[];
  };
  stateValues: {
    migrate(state: number, fromVersion: number, values: Column): Column;
    toJson(state: number, part: Part, values: Column): Column;
    fromJson(state: number, part: Part, texts: Column): Column;
  };
  checkpointListener: {
    completed(checkpoint: number): void;
    aborted(checkpoint: number): void;
  };
}

/** One operator, from its making to the first error. */
class Instance {
  readonly operator: Operator;
  private readonly record: PluginRecord;
  private readonly output: Output;

  constructor(made: OperatorClass) {
    this.operator = new made();
    const { declared } = this.operator;
    declared.close();
    this.record = new PluginRecord(declared.call, declared.inputs);
    this.output = new Output(declared.call, declared.outputs);
  }

  open(config: ReadonlyMap<string, string>): void {
    const options = new Config(config);
    notAPromise(this.operator.open(options), "open");
    options.refuseUnknown();
  }

  process(input: number, batch: PackedBatch, current: readonly PackedOptionalColumn[]): PackedOutput {
    const { operator, record, output } = this;
    const { call, states, inputs } = operator.declared;
    beginMetrics();
    call.begin(input, batch, inputs[input]!.unread);
    output.begin();
    for (const state of states) {
      state.begin(current[state.position]);
    }
    eachRecord(call.slots, operator, record, output, (returned) => notAPromise(returned, "process"));
    const into: PackedOutput = { emissions: [], values: [], lists: [], maps: [], rejections: [] };
    output.finish(into);
    for (const state of states) {
      state.finish(into);
    }
    call.end();
    finishMetrics();
    return into;
  }
}

function notAPromise(returned: unknown, method: string): void {
  if (returned instanceof Promise) {
    throw new Error(`\`${method}\` returned a promise; an operator has nothing to wait for, so make it a plain method`);
  }
}

/** What a thrown value tells the host: message and stack. `result` errors of the contract are thrown as text. */
function told(error: unknown): string {
  if (!(error instanceof Error)) {
    return typeof error === "string" ? error : `something was thrown: ${String(error)}`;
  }
  const head = error.name === "Error" ? error.message : `${error.name}: ${error.message}`;
  const lines = (error.stack ?? "").split("\n").map((line) => line.trim());
  const stack = lines.filter((line) => line.startsWith("at ")).slice(0, STACK_LINES);
  return [head, ...stack].join("\n  ");
}

function orText<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw told(error);
  }
}

/** The same without a stack, for what is wrong with data or options. */
function orMessage<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw because(error);
  }
}

/** The exports of a component. */
export function plugin(made: OperatorClass, name: string, version: string): Exports {
  if (typeof made !== "function" || !(made.prototype instanceof Operator)) {
    throw new TypeError("the entry module has no operator; write `export default class MyOperator extends Operator`");
  }
  let declared: Instance | undefined;
  const describing = (): Instance => (declared ??= new Instance(made));
  let instance: Instance | undefined;
  let config: ReadonlyMap<string, string> = new Map();
  const opened = (): Instance => {
    const fresh = new Instance(made);
    fresh.open(config);
    return fresh;
  };
  const stateAt = (position: number): State<unknown> => {
    const state = describing().operator.declared.states[position];
    if (state === undefined) {
      throw new Error(`there is no state ${position}`);
    }
    return state;
  };
  const process = (input: number, records: PackedBatch, states: readonly PackedOptionalColumn[]): PackedOutput => {
    const current = instance ?? orText(opened);
    instance = undefined;
    const output = orText(() => current.process(input, records, states));
    instance = current;
    return output;
  };
  return {
    operator: {
      describe() {
        const { states, inputs, outputs } = describing().operator.declared;
        return {
          name,
          version,
          states: states.map((state) => state.declaration),
          inputs: inputs.map((port) => port.name),
          outputs: outputs.map((port) => port.name),
        };
      },
      open(options) {
        instance = undefined;
        config = new Map(options);
        instance = orMessage(opened);
      },
      process(input, records, states) {
        const batch = orMessage(() => packedBatch(records));
        const output = process(input, batch, packedStates(states));
        return orMessage(() => plainOutput(output, batch));
      },
    },
    operatorPacked: { process },
    inputColumns: {
      unread() {
        const { inputs } = describing().operator.declared;
        const unread = inputs.map(({ position, unread: columns }) => ({
          input: position,
          values: columns.includes("value"),
          timestamps: columns.includes("time"),
        }));
        return unread.filter(({ values, timestamps }) => values || timestamps);
      },
    },
    stateValues: {
      migrate: (position, fromVersion, values) =>
        orMessage(() => {
          const state = stateAt(position);
          state.migration(fromVersion);
          return each(values, (bytes, start, end, into) => state.migrated(fromVersion, bytes, start, end, into));
        }),
      toJson: (position, part, values) =>
        orMessage(() => {
          const state = stateAt(position);
          return each(values, (bytes, start, end, into) =>
            into.appendText(
              part === "value"
                ? state.codec.toJson(bytes, start, end)
                : state.subKeyToJson(bytes.subarray(start, end)),
            ),
          );
        }),
      fromJson: (position, part, texts) =>
        orMessage(() => {
          const state = stateAt(position);
          return each(texts, (bytes, start, end, into) => {
            const json = textIfUtf8(bytes, start, end) ?? binaryOf(bytes, start, end);
            return part === "value" ? state.codec.fromJson(json, into) : state.subKeyFromJson(json, into);
          });
        }),
    },
    checkpointListener: {
      completed: (checkpoint) => quietly(() => instance?.operator.checkpointCompleted(checkpoint)),
      aborted: (checkpoint) => quietly(() => instance?.operator.checkpointAborted(checkpoint)),
    },
  };
}

/** Nothing comes back from a listener, so what it throws goes to the log. */
function quietly(act: () => void): void {
  try {
    act();
  } catch (error) {
    console.error(told(error));
  }
}

type Rewrite = (bytes: Uint8Array, start: number, end: number, into: Bytes) => void;

function each(items: Column, rewrite: Rewrite): Column {
  const into = new Bytes();
  const ends = new Ends();
  for (let index = 0; index < items.ends.length; index++) {
    try {
      rewrite(items.bytes, startOf(items.ends, index), items.ends[index]!, into);
    } catch (error) {
      throw new Error(`item ${index}: ${because(error)}`);
    }
    ends.push(into.length);
  }
  return { ends: ends.written(), bytes: into.written() };
}

/** A column of texts or bytes. */
export function column(items: readonly (string | Uint8Array)[]): { ends: number[]; bytes: Uint8Array } {
  const into = new Bytes();
  const ends = items.map((item) => {
    into.append(typeof item === "string" ? utf8(item) : item);
    return into.length;
  });
  return { ends, bytes: into.copy() };
}
