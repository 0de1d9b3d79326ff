/**
 * What the engine offers a plugin, and what passes between the two: the contract of `wit/`, as TypeScript sees it.
 *
 * The entry module of a component attaches the real host, a unit test a played one, so nothing else here knows which of the
 * two it talks to.
 *
 * A call has two forms. The packed one is what the SDK works with: its lists of numbers are bytes, since each number that is
 * taken out of a list is a step of the interpreter. The plain one is for hosts that do not know the other. Elsewhere lists of
 * numbers arrive as arrays, and leave as `Uint32Array`, which is copied at once.
 */

export type Numbers = readonly number[] | Uint32Array;

export interface Column {
  ends: Numbers;
  bytes: Uint8Array;
}

export interface OptionalColumn extends Column {
  present: Uint8Array;
}

export interface PackedColumn {
  ends: Uint8Array;
  bytes: Uint8Array;
}

export interface PackedOptionalColumn extends PackedColumn {
  present: Uint8Array;
}

export interface PackedBatch {
  keys: PackedColumn;
  slots: Uint8Array;
  values: PackedColumn;
  timestamps: Uint8Array;
}

export type Selection = { tag: "all" } | { tag: "listed"; val: Uint8Array };

export type EmittedValues =
  | { tag: "empty" }
  | { tag: "bytes"; val: PackedColumn }
  | { tag: "text"; val: { ends: Uint8Array; text: string } };

export interface PackedEmission {
  output: number;
  records: Selection;
  keys: { tag: "same" } | { tag: "fresh"; val: PackedColumn };
  values: EmittedValues;
  timestamps: { tag: "same" } | { tag: "fresh"; val: Uint8Array };
}

export interface PackedValueWrites {
  state: number;
  slots: Selection;
  values: PackedOptionalColumn;
}

export interface PackedListWrites {
  state: number;
  cleared: Uint8Array;
  slots: Uint8Array;
  values: PackedColumn;
}

export interface PackedMapWrites {
  state: number;
  cleared: Uint8Array;
  slots: Uint8Array;
  subKeys: PackedColumn;
  values: PackedOptionalColumn;
}

export interface PackedOutput {
  emissions: PackedEmission[];
  values: PackedValueWrites[];
  lists: PackedListWrites[];
  maps: PackedMapWrites[];
  rejections: Rejection[];
}

/** The columns of one input port that calls come without. */
export interface UnreadColumns {
  input: number;
  values: boolean;
  timestamps: boolean;
}

export interface Batch {
  keys: Column;
  slots: readonly number[];
  values: Column;
  timestamps: readonly number[];
}

export interface Emission {
  output: number;
  keys: { tag: "input" } | { tag: "fresh"; val: Column };
  slots: Numbers;
  values: Column;
  timestamps: readonly number[];
}

export interface ValueWrites {
  state: number;
  slots: Numbers;
  values: OptionalColumn;
}

export interface ListWrites {
  state: number;
  cleared: Numbers;
  slots: Numbers;
  values: Column;
}

export interface MapWrites {
  state: number;
  cleared: Numbers;
  slots: Numbers;
  subKeys: Column;
  values: OptionalColumn;
}

export interface Rejection {
  record: number;
  reason: string;
}

export interface CallOutput {
  emissions: Emission[];
  values: ValueWrites[];
  lists: ListWrites[];
  maps: MapWrites[];
  rejections: Rejection[];
}

export interface StateDeclaration {
  name: string;
  kind: "value" | "list" | "map";
  version: number;
  ttlMs: number | null;
}

export interface Description {
  name: string;
  version: string;
  states: StateDeclaration[];
  inputs: string[];
  outputs: string[];
}

export type Level = "trace" | "debug" | "info" | "warn" | "error";

export interface Host {
  state: {
    mapGet(state: number, slots: Numbers, subKeys: Column): OptionalColumn;
    mapScan(
      state: number,
      slot: number,
      start: Uint8Array,
      end: Uint8Array | null,
      descending: boolean,
      max: number,
    ): { subKeys: Column; values: Column; more: boolean };
    listRead(
      state: number,
      slot: number,
      start: number,
      max: number,
    ): { values: Column; next: number | null };
    listLen(state: number, slots: Numbers): readonly number[];
  };
  log: { line(level: Level, message: string): void };
  metrics: {
    add(counter: string, delta: number): void;
    set(gauge: string, value: number): void;
    observe(histogram: string, values: readonly number[] | Float64Array): void;
  };
}

let attached: Host | undefined;

/** Says who is asked from now on; returns who was asked before. */
export function attach(host: Host | undefined): Host | undefined {
  const before = attached;
  attached = host;
  return before;
}

/** The engine. There is none while a module is loaded. */
export function host(): Host {
  if (attached === undefined) {
    throw new Error("there is no engine here; state, log and metrics can be used within calls of the operator only");
  }
  return attached;
}

/** The engine, if there is one. */
export function hostIfAny(): Host | undefined {
  return attached;
}
