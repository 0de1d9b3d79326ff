/**
 * What an operator emits, collected into columns.
 *
 * An emission has the key and the time of its record unless it says otherwise. As long as a port has only such ones, one a
 * record, slots and times are those of the batch; as long as no key is another one, no key is copied.
 */

import { Bytes, Ends, utf8 } from "./bytes.js";
import type { CallOutput, Rejection } from "./host.js";
import { NO_TIME, type Port } from "./operator.js";
import type { Call } from "./state.js";

/** What can be emitted: text, bytes, and numbers, which become decimal text. */
export type Payload = string | number | bigint | Uint8Array;

/** What an emission has otherwise than its record. */
export interface Otherwise {
  /** Another output port than the first one. */
  to?: Port;
  /** Another key. */
  key?: string | Uint8Array;
  /** Another event time, in milliseconds since 1970; `null` for none. */
  time?: number | null;
}

/** Where an operator emits records. They leave when the whole batch has been processed. */
export class Output {
  private readonly ports: Emitted[];
  private readonly first: Emitted;
  private rejections: Rejection[] = [];

  constructor(
    private readonly call: Call,
    private readonly declared: readonly Port[],
  ) {
    this.ports = declared.map((port) => new Emitted(call, port.position));
    this.first = this.ports[0]!;
  }

  /** Emits a record, with the key and time of the one that is being processed unless `otherwise` says more. */
  emit(value: Payload, otherwise?: Otherwise): void {
    const port = this.first;
    if (otherwise !== undefined) {
      this.port(otherwise.to).emitOther(value, otherwise.key, otherwise.time);
    } else if (port.isSpelled || port.count !== this.call.index) {
      port.emitOther(value, undefined, undefined);
    } else {
      port.put(value);
    }
  }

  /**
   * Refuses the record that is being processed: it goes where the pipeline's `on-error` says, and the others of the batch
   * count. What it has emitted or written before stays, so reject first. Of several reasons the first counts.
   */
  reject(why: string): void {
    const record = this.call.index;
    if (this.rejections[this.rejections.length - 1]?.record !== record) {
      this.rejections.push({ record, reason: String(why) });
    }
  }

  begin(): void {
    this.rejections = [];
    for (const port of this.ports) {
      port.begin();
    }
  }

  finish(into: CallOutput): void {
    into.rejections = this.rejections;
    for (const port of this.ports) {
      port.finish(into);
    }
  }

  private port(port: Port | undefined): Emitted {
    if (port === undefined) {
      return this.first;
    }
    if (this.declared[port.position] !== port) {
      throw new Error(`\`${port.name}\` is no output port of this operator; use one that \`this.output(..)\` declared`);
    }
    return this.ports[port.position]!;
  }
}

/**
 * What leaves by one port in one call. Unless `isSpelled`, each record so far emitted one record like itself; then `slots` and
 * `times` are empty. If `fresh`, slots are indexes of those keys, else they are those of the call.
 */
class Emitted {
  isSpelled = false;
  private fresh: { ends: Ends; bytes: Bytes } | undefined;
  private readonly bytes = new Bytes();
  private ends = new Uint32Array(1024);
  count = 0;
  private readonly slots = new Ends();
  private times: number[] = [];

  constructor(
    private readonly call: Call,
    private readonly position: number,
  ) {}

  begin(): void {
    this.isSpelled = false;
    this.fresh = undefined;
    this.bytes.length = 0;
    this.count = 0;
    this.slots.length = 0;
    this.times = [];
  }

  emitOther(value: Payload, key: string | Uint8Array | undefined, time: number | null | undefined): void {
    const { call } = this;
    if (time !== undefined && time !== null && !Number.isSafeInteger(time)) {
      throw new RangeError(`${time} is no event time; use whole milliseconds since 1970, or null for none`);
    }
    if (!this.isSpelled) {
      this.spellOut();
    }
    if (key !== undefined && this.fresh === undefined) {
      this.freshKeys();
    }
    const slot = call.slots[call.index]!;
    if (this.fresh === undefined) {
      this.slots.push(slot);
    } else {
      const { ends, bytes } = this.fresh;
      this.slots.push(ends.length);
      bytes.append(key === undefined ? call.key(slot) : typeof key === "string" ? utf8(key) : key);
      ends.push(bytes.length);
    }
    this.times.push(time === undefined ? call.timestamps[call.index]! : (time ?? NO_TIME));
    this.put(value);
  }

  finish(into: CallOutput): void {
    const { count, call } = this;
    if (count === 0) {
      return;
    }
    if (!this.isSpelled && count < call.slots.length) {
      this.spellOut();
    }
    const timestamps = this.isSpelled ? this.times : call.timestamps;
    checkTimes(timestamps);
    into.emissions.push({
      output: this.position,
      keys:
        this.fresh === undefined
          ? { tag: "input" }
          : { tag: "fresh", val: { ends: this.fresh.ends.written(), bytes: this.fresh.bytes.written() } },
      slots: this.isSpelled ? this.slots.written() : call.slots,
      values: { ends: this.ends.subarray(0, count), bytes: this.bytes.written() },
      timestamps,
    });
  }

  /** Appends a value. Its slot and time are written down, or are those of the record. */
  put(value: Payload): void {
    const { bytes } = this;
    if (typeof value === "number") {
      bytes.appendDecimal(value);
    } else if (typeof value === "string") {
      bytes.appendText(value);
    } else if (value instanceof Uint8Array) {
      bytes.append(value);
    } else if (typeof value === "bigint") {
      bytes.appendText(value.toString());
    } else {
      throw new TypeError(`a value of type \`${typeof value}\` cannot be emitted; emit text, bytes or a number`);
    }
    if (this.count === this.ends.length) {
      const grown = new Uint32Array(this.count * 2);
      grown.set(this.ends);
      this.ends = grown;
    }
    this.ends[this.count++] = bytes.length;
  }

  /** Writes down the slots and times of what was emitted record for record. */
  private spellOut(): void {
    this.isSpelled = true;
    for (let index = 0; index < this.count; index++) {
      this.slots.push(this.call.slots[index]!);
    }
    this.times = this.call.timestamps.slice(0, this.count);
  }

  /** From here on keys stand beside the values. What was emitted before keeps its slots: the keys of the call come first. */
  private freshKeys(): void {
    const { keys } = this.call;
    this.fresh = { ends: new Ends(), bytes: new Bytes() };
    if (this.slots.length > 0) {
      this.fresh.bytes.append(keys.bytes);
      for (let index = 0; index < keys.ends.length; index++) {
        this.fresh.ends.push(keys.ends[index]!);
      }
    }
  }
}

/** The largest times go through built-in functions, for speed. */
const TIMES_AT_ONCE = 8192;

/** Refuses times that a number does not hold exactly, rather than to change them. */
export function checkTimes(times: readonly number[]): void {
  for (let at = 0; at < times.length; at += TIMES_AT_ONCE) {
    const some = times.length <= TIMES_AT_ONCE ? times : times.slice(at, at + TIMES_AT_ONCE);
    const max = Math.max.apply(null, some as number[]);
    const min = Math.min.apply(null, some as number[]);
    if (max > Number.MAX_SAFE_INTEGER || (min < -Number.MAX_SAFE_INTEGER && max !== NO_TIME)) {
      const wrong = some.find((time) => time !== NO_TIME && !Number.isSafeInteger(time));
      if (wrong !== undefined) {
        throw new RangeError(`the event time ${wrong} is beyond 2^53 ms, which JavaScript cannot count exactly`);
      }
    }
  }
}
