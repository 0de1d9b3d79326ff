/**
 * The class that a user extends: it processes one record after the other. Its fields declare states and ports; a fresh object of the
 * class is an instance of the plugin.
 *
 * There is one `PluginRecord` for all records: it moves along the batch, so columns that an operator does not read cost nothing.
 */

import { readable, startOf, textIfUtf8 } from "./bytes.js";
import type { Config } from "./config.js";
import type { Codec, SubKeyCodec } from "./encoding.js";
import { ListState } from "./list.js";
import { MapState } from "./map.js";
import type { Output } from "./output.js";
import { timeAt } from "./packed.js";
import { currentRecord, currentSlot } from "./place.js";
import { Call, type InputColumn, type State, type StateOptions, ValueState } from "./state.js";

/** How many states and ports there may be: positions are 16 bits. */
const POSITIONS_MAX = 65535;

/** One of an operator's inputs or outputs. */
export class Port {
  constructor(
    readonly name: string,
    readonly position: number,
    /** What records that come by it are never asked for. */
    readonly unread: readonly InputColumn[] = [],
  ) {}
}

/** What is known of an input port beforehand. */
export interface InputOptions {
  /**
   * The columns of this port that `process` never reads, such as `["value", "time"]` if it only counts: batches come without
   * them, which saves a copy. `"value"` stands for `record.value`, `text` and `tryText()`, `"time"` for `record.time`. Reading one
   * is an error. Emissions still have the time of their record. By default all columns are read.
   */
  unread?: readonly InputColumn[];
}

const INPUT_COLUMNS: readonly unknown[] = ["value", "time"] satisfies InputColumn[];

/** The record that is being processed. The object is reused for the next record, so keep its values, not the object. */
export class PluginRecord {
  constructor(
    private readonly call: Call,
    private readonly inputs: readonly Port[],
  ) {}

  /** Its input port. */
  get input(): Port {
    return this.inputs[this.call.input]!;
  }

  /** Its key. */
  get key(): Uint8Array {
    return currentSlot < 0 ? outside() : this.call.key(currentSlot);
  }

  /** Its value. */
  get value(): Uint8Array {
    const { ends, bytes } = this.call.values ?? this.refuse("value");
    return bytes.subarray(startOf(ends, currentRecord), ends[currentRecord]);
  }

  /** The key as text; an error if it is not UTF-8. */
  get keyText(): string {
    return textIfUtf8(this.key) ?? notText("key", this.key);
  }

  /** The value as text; an error if it is not UTF-8. */
  get text(): string {
    const { call } = this;
    return call.text(call.values ?? this.refuse("value"), currentRecord) ?? notText("value", this.value);
  }

  /** The value as text, or `undefined` if it is not UTF-8. */
  tryText(): string | undefined {
    const { call } = this;
    return call.text(call.values ?? this.refuse("value"), currentRecord);
  }

  /** Its event time in milliseconds since 1970-01-01T00:00:00Z, if it has one. */
  get time(): number | undefined {
    return timeAt(this.call.times ?? this.refuse("time"), currentRecord);
  }

  private refuse(column: InputColumn): never {
    if (currentRecord < 0) {
      outside();
    }
    throw new Error(
      `records of input \`${this.input.name}\` come without their ${column}: take "${column}" out of the \`unread\` of ` +
        `\`this.input("${this.input.name}", ..)\` to ask for it`,
    );
  }
}

function outside(): never {
  throw new Error("a record belongs to a call; take what is needed of it in `process`");
}

function notText(what: string, bytes: Uint8Array): never {
  throw new Error(`the ${what} \`${readable(bytes)}\` is not UTF-8`);
}

/** An operator: `export default class .. extends Operator`. */
export abstract class Operator {
  /** The SDK's data about this object; not part of the interface. */
  readonly declared = new Declared();

  /** Handles one record. States are those of its key. An exception ends the call, and nothing of the call is applied. */
  abstract process(record: PluginRecord, out: Output): void;

  /** Reads the configuration, before the first record. An exception says what is wrong, and the job does not start. */
  open(_config: Config): void {}

  /** Called when a checkpoint is durable, and all with smaller numbers. Best effort; no state can be used here. */
  checkpointCompleted(_checkpoint: number): void {}

  /** Called when a checkpoint was aborted. Best effort; no state can be used here. */
  checkpointAborted(_checkpoint: number): void {}

  /** Declares a state with one value per key. */
  protected value<T>(name: string, codec: Codec<T>, options: StateOptions<T> = {}): ValueState<T> {
    return this.declared.state((call, position) => new ValueState(call, position, "value", name, codec, options));
  }

  /** Declares a state with a list of values per key. */
  protected list<T>(name: string, codec: Codec<T>, options: StateOptions<T> = {}): ListState<T> {
    return this.declared.state((call, position) => new ListState(call, position, "list", name, codec, options));
  }

  /** Declares a state with values by sub-key, for each key. */
  protected map<K, V>(
    name: string,
    subKeys: SubKeyCodec<K>,
    codec: Codec<V>,
    options: StateOptions<V> = {},
  ): MapState<K, V> {
    return this.declared.state((call, position) => new MapState(call, position, name, subKeys, codec, options));
  }

  /** Declares an input port. Without any, there is one called `in`. */
  protected input(name: string, options: InputOptions = {}): Port {
    return this.declared.port(this.declared.inputs, name, options.unread);
  }

  /** Declares an output port; `out.emit` means the first one. Without any, there is one called `out`. */
  protected output(name: string): Port {
    return this.declared.port(this.declared.outputs, name);
  }
}

/** What the fields of an operator declared. */
export class Declared {
  readonly call = new Call();
  readonly states: State<unknown>[] = [];
  readonly inputs: Port[] = [];
  readonly outputs: Port[] = [];
  private isOver = false;

  // Only the field that declares a state knows the type of its values.
  state<S extends State<any>>(make: (call: Call, position: number) => S): S {
    const state = make(this.call, this.states.length);
    const { name } = state.declaration;
    this.check(
      "state",
      name,
      this.states.map((other) => other.declaration.name),
    );
    this.states.push(state);
    return state;
  }

  port(ports: Port[], name: string, unread: readonly InputColumn[] = []): Port {
    this.check(
      "port",
      name,
      ports.map((other) => other.name),
    );
    const unknown = unread.find((column) => !INPUT_COLUMNS.includes(column));
    if (unknown !== undefined) {
      throw new Error(`input \`${name}\` says that \`${unknown}\` is unread; name "value", "time" or both`);
    }
    const port = new Port(name, ports.length, unread);
    ports.push(port);
    return port;
  }

  /** Nothing is declared from here on. */
  close(): void {
    if (this.inputs.length === 0) {
      this.input();
    }
    if (this.outputs.length === 0) {
      this.port(this.outputs, "out");
    }
    this.isOver = true;
  }

  private input(): void {
    this.port(this.inputs, "in");
  }

  private check(what: string, name: string, others: readonly string[]): void {
    if (this.isOver) {
      throw new Error(`${what} \`${name}\` is declared too late; declare it as a field of the operator`);
    }
    if (!/^[a-z0-9-]{1,64}$/.test(name)) {
      throw new Error(`the ${what} \`${name}\` has no proper name; use 1 to 64 characters of \`a-z\`, \`0-9\` and \`-\``);
    }
    if (others.includes(name)) {
      throw new Error(`two of the operator's ${what}s have the name \`${name}\``);
    }
    if (others.length >= POSITIONS_MAX) {
      throw new Error(`an operator has at most ${POSITIONS_MAX} ${what}s`);
    }
  }
}
