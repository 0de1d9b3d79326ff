/**
 * What the engine offers a plugin, and what passes between the two: the contract of `wit/`, as TypeScript sees it.
 *
 * The entry module of a component attaches the real host, a unit test a played one, so nothing else here knows which of the
 * two it talks to. Lists of numbers arrive as arrays; they leave as `Uint32Array`, which is copied at once.
 */

export type Numbers = readonly number[] | Uint32Array;

export interface Column {
  ends: Numbers;
  bytes: Uint8Array;
}

export interface OptionalColumn extends Column {
  present: Uint8Array;
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
