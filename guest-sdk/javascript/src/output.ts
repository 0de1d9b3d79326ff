/**
 * What an operator emits, collected into columns.
 *
 * An emission has the key and the time of its record unless it says otherwise. As long as each record of a port emits one like
 * itself, nothing but values is written down; as long as no key is another one, no key is, and the same holds for times.
 */

import { Bytes, Ends, NOT_ASCII, utf8, utf8Length } from "./bytes.js";
import type { EmittedValues, PackedEmission, PackedOutput, Rejection } from "./host.js";
import type { Port } from "./operator.js";
import { NO_TIME, Times, bytesOf } from "./packed.js";
import { currentRecord, currentSlot } from "./place.js";
import type { Call } from "./state.js";

/** What can be emitted: text, bytes, and numbers, which become decimal text. */
export type Payload = string | number | bigint | Uint8Array;

/** Properties of an emission that differ from its record. */
export interface Otherwise {
  /** Another output port than the first one. */
  to?: Port;
  /** Another key. */
  key?: string | Uint8Array;
  /** Another event time, in milliseconds since 1970; `null` for none. */
  time?: number | null;
}

declare global {
  interface String {
    /** Of ES2024. A project whose `lib` is older has this file among its own, so it is declared here. */
    isWellFormed(): boolean;
  }
}

type Texts = (string | number)[];

/** Instead of texts: no record has this index. */
const OUT_OF_STEP = { length: NaN } as unknown as Texts;

/** Where an operator emits records. They leave when the whole batch has been processed. */
export class Output {
  private readonly ports: Emitted[];
  private readonly first: Emitted;
  private rejections: Rejection[] = [];
  /** The texts of the first port, as long as it has nothing else: emission `i` is text of record `i`, and like it. */
  private texts = OUT_OF_STEP;

  constructor(
    call: Call,
    private readonly declared: readonly Port[],
  ) {
    this.ports = declared.map((port) => new Emitted(call, port.position));
    this.first = this.ports[0]!;
  }

  /** Emits a record, with the key and time of the one that is being processed unless `otherwise` says more. */
  emit(value: Payload, otherwise?: Otherwise): void {
    if (otherwise === undefined) {
      if (typeof value === "number" || (typeof value === "string" && value.isWellFormed())) {
        const { texts } = this;
        if (texts.length === currentRecord) {
          texts[currentRecord] = value;
          return;
        }
        this.texts = OUT_OF_STEP;
        this.first.emitLike(value);
        return;
      }
      this.texts = OUT_OF_STEP;
      if (value instanceof Uint8Array) {
        this.first.emitLike(value);
      } else {
        this.first.emit(value, undefined, undefined);
      }
      return;
    }
    const port = this.port(otherwise.to);
    if (port === this.first) {
      this.texts = OUT_OF_STEP;
    }
    port.emit(value, otherwise.key, otherwise.time);
  }

  /**
   * Rejects the record that is being processed: the pipeline's `on-error` decides what follows, and the others of the batch
   * are not affected. What it has emitted or written before stays, so reject first. Of several reasons the first counts.
   */
  reject(why: string): void {
    refuseOutside();
    if (this.rejections[this.rejections.length - 1]?.record !== currentRecord) {
      this.rejections.push({ record: currentRecord, reason: String(why) });
    }
  }

  begin(): void {
    this.rejections = [];
    for (const port of this.ports) {
      port.begin();
    }
    this.texts = this.first.texts;
  }

  finish(into: PackedOutput): void {
    this.texts = OUT_OF_STEP;
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
      throw new Error(`\`${port.name}\` is not an output port of this operator; use one that \`this.output(..)\` declared`);
    }
    return this.ports[port.position]!;
  }
}

/** Nothing can be emitted where there is no record. */
function refuseOutside(): void {
  if (currentRecord < 0) {
    throw new Error("what is emitted or rejected belongs to a record; do it in `process`");
  }
}

/**
 * What leaves by one port in one call.
 *
 * - Values are `texts` as long as all are text or numbers, else they are in `bytes` and `ends`.
 * - Without `records`, emission `i` is of record `i`.
 * - Without `keys` and without `times`, each emission has those of its record; with them, there are as many as emissions.
 */
class Emitted {
  texts: Texts = [];
  private isText = true;
  private readonly bytes = new Bytes();
  private readonly ends = new Ends();
  private records: Ends | undefined;
  private keys: { ends: Ends; bytes: Bytes } | undefined;
  private times: Times | undefined;
  private finished: PackedEmission[] = [];

  constructor(
    private readonly call: Call,
    private readonly position: number,
  ) {}

  begin(): void {
    this.finished = [];
    this.restart();
  }

  /** Emits text that is well-formed, a number or bytes, like its record. */
  emitLike(value: Uint8Array | string | number): void {
    if (this.keys !== undefined || this.times !== undefined || currentRecord < 0) {
      this.emit(value, undefined, undefined);
      return;
    }
    if (this.records !== undefined) {
      this.records.push(currentRecord);
    } else if ((this.isText ? this.texts : this.ends).length !== currentRecord) {
      this.listRecords();
      this.records!.push(currentRecord);
    }
    if (!this.isText) {
      this.append(value);
    } else if (value instanceof Uint8Array) {
      this.put(value);
    } else {
      this.texts.push(value);
    }
  }

  emit(value: Payload, key: string | Uint8Array | undefined, time: number | null | undefined): void {
    // Nothing is written down before all of it is known to be right: the operator may catch the error.
    refuseOutside();
    const payload = checked(value);
    const keyBytes = key === undefined ? undefined : typeof key === "string" ? utf8(key) : checkedKey(key);
    if (time !== undefined && time !== null && !Number.isSafeInteger(time)) {
      throw new RangeError(`${time} is not an event time; use whole milliseconds since 1970, or null for none`);
    }
    if (this.call.times === undefined && this.count() > 0 && (time === undefined) !== (this.times === undefined)) {
      this.split();
    }
    if (this.records === undefined && this.count() !== currentRecord) {
      this.listRecords();
    }
    if (keyBytes !== undefined && this.keys === undefined) {
      this.listKeys();
    }
    if (time !== undefined && this.times === undefined) {
      this.listTimes();
    }
    this.records?.push(currentRecord);
    if (this.keys !== undefined) {
      const { ends, bytes } = this.keys;
      bytes.append(keyBytes ?? this.call.key(currentSlot));
      ends.push(bytes.length);
    }
    if (time === undefined) {
      this.times?.copy(this.call.times!, currentRecord);
    } else {
      this.times!.push(time ?? NO_TIME);
    }
    this.put(payload);
  }

  finish(into: PackedOutput): void {
    this.split();
    into.emissions.push(...this.finished);
  }

  private count(): number {
    return this.isText ? this.texts.length : this.ends.length;
  }

  /** Closes what was emitted so far: what follows is another emission of the contract. */
  private split(): void {
    const count = this.count();
    if (count === 0) {
      return;
    }
    const values = this.values();
    if (this.records === undefined && count < this.call.slots.length) {
      this.listRecords();
    }
    this.finished.push({
      output: this.position,
      records: this.records === undefined ? { tag: "all" } : { tag: "listed", val: bytesOf(this.records.written()) },
      keys:
        this.keys === undefined
          ? { tag: "same" }
          : { tag: "fresh", val: { ends: bytesOf(this.keys.ends.written()), bytes: this.keys.bytes.written() } },
      values,
      timestamps: this.times === undefined ? { tag: "same" } : { tag: "fresh", val: this.times.written() },
    });
    this.restart();
  }

  private restart(): void {
    this.texts = [];
    this.isText = true;
    this.records = undefined;
    this.keys = undefined;
    this.times = undefined;
  }

  private values(): EmittedValues {
    if (this.isText) {
      return textValues(this.texts);
    }
    const bytes = this.bytes.copy();
    return bytes.length === 0
      ? { tag: "empty" }
      : { tag: "bytes", val: { ends: bytesOf(this.ends.written().slice()), bytes } };
  }

  private put(value: Uint8Array | string | number): void {
    if (this.isText) {
      if (!(value instanceof Uint8Array)) {
        this.texts.push(value);
        return;
      }
      this.isText = false;
      this.bytes.length = this.ends.length = 0;
      this.texts.forEach((text) => this.append(text));
    }
    this.append(value);
  }

  private append(value: Uint8Array | string | number): void {
    const { bytes } = this;
    if (typeof value === "number") {
      bytes.appendDecimal(value);
    } else if (typeof value === "string") {
      bytes.appendText(value);
    } else {
      bytes.append(value);
    }
    this.ends.push(bytes.length);
  }

  /** Writes down the records that emitted one each. */
  private listRecords(): void {
    const count = this.count();
    this.records = new Ends();
    for (let record = 0; record < count; record++) {
      this.records.push(record);
    }
  }

  /** The record of an emission, by its index. */
  private recordOf(emission: number): number {
    return this.records === undefined ? emission : this.records.array[emission]!;
  }

  private listKeys(): void {
    const [ends, bytes] = [new Ends(), new Bytes()];
    const count = this.count();
    this.keys = { ends, bytes };
    for (let emission = 0; emission < count; emission++) {
      bytes.append(this.call.key(this.call.slots[this.recordOf(emission)]!));
      ends.push(bytes.length);
    }
  }

  private listTimes(): void {
    const count = this.count();
    this.times = new Times();
    for (let emission = 0; emission < count; emission++) {
      this.times.copy(this.call.times!, this.recordOf(emission));
    }
  }
}

/** A value as it is collected; an error if it cannot be emitted. */
function checked(value: Payload): Uint8Array | string | number {
  if (typeof value === "string") {
    return value.isWellFormed() ? value : refuseText(value);
  }
  if (typeof value === "number" || value instanceof Uint8Array) {
    return value;
  }
  if (typeof value === "bigint") {
    return value.toString();
  }
  throw new TypeError(`a value of type \`${typeof value}\` cannot be emitted; emit text, bytes or a number`);
}

function refuseText(text: string): never {
  utf8(text);
  throw new Error("a text has no UTF-8");
}

function checkedKey(key: Uint8Array): Uint8Array {
  if (!(key instanceof Uint8Array)) {
    throw new TypeError(`a key of type \`${typeof key}\` cannot be emitted; use text or bytes`);
  }
  return key;
}

/** Joins texts, so that the host gets one: where each ends is counted in bytes of UTF-8. */
function textValues(texts: Texts): EmittedValues {
  const count = texts.length;
  const ends = new Uint32Array(count);
  let isNumbers = true;
  let end = 0;
  for (let index = 0; index < count; index++) {
    let text = texts[index]!;
    if (typeof text === "number") {
      texts[index] = text = "" + text;
    } else {
      isNumbers = false;
    }
    ends[index] = end += text.length;
  }
  const text = texts.join("");
  if (text === "") {
    return { tag: "empty" };
  }
  if (!isNumbers && NOT_ASCII.test(text)) {
    end = 0;
    texts.forEach((part, index) => (ends[index] = end += utf8Length(part as string)));
  }
  return { tag: "text", val: { ends: bytesOf(ends), text } };
}
