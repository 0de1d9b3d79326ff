/**
 * What an operator tells people: lines for the job's log, and numbers among its metrics.
 *
 * `console` goes to the log as well. Metrics are collected within a call and handed over once, at its end: those of a call that
 * fails are dropped.
 */

import { type Level, host, hostIfAny } from "./host.js";
import { textIfUtf8 } from "./bytes.js";

/** Lines for the job's log, marked with operator and task. */
export const log = {
  trace: (...what: unknown[]): void => line("trace", what),
  debug: (...what: unknown[]): void => line("debug", what),
  info: (...what: unknown[]): void => line("info", what),
  warn: (...what: unknown[]): void => line("warn", what),
  error: (...what: unknown[]): void => line("error", what),
};

function line(level: Level, what: readonly unknown[]): void {
  hostIfAny()?.log.line(level, what.map(shown).join(" "));
}

/** A value for people. */
function shown(value: unknown): string {
  if (typeof value === "string") {
    return value;
  }
  if (value instanceof Error) {
    return String(value);
  }
  if (value instanceof Uint8Array) {
    return textIfUtf8(value) ?? `[${value.join(" ")}]`;
  }
  if (typeof value !== "object" || value === null) {
    return String(value);
  }
  try {
    return JSON.stringify(value, (_, inner: unknown) => (typeof inner === "bigint" ? `${inner}n` : inner));
  } catch {
    return String(value);
  }
}

const counters = new Map<string, number>();
const gauges = new Map<string, number>();
const histograms = new Map<string, number[]>();

/** Numbers among the job's metrics, labelled with operator and task. Names have `a-z`, `0-9`, `-` and `_`. */
export const metrics = {
  /** Adds to a counter. */
  add(counter: string, delta: number = 1): void {
    const sum = (counters.get(counter) ?? 0) + delta;
    if (!(delta >= 0) || !Number.isSafeInteger(sum)) {
      throw new RangeError(`the counter \`${counter}\` cannot grow by ${delta}; add whole numbers from 0`);
    }
    counters.set(counter, sum);
  },
  /** Sets a gauge. */
  set(gauge: string, value: number): void {
    gauges.set(gauge, value);
  },
  /** Adds a value to a histogram. */
  observe(histogram: string, value: number): void {
    const values = histograms.get(histogram);
    if (values === undefined) {
      histograms.set(histogram, [value]);
    } else {
      values.push(value);
    }
  },
};

/** Drops what a call before this one left. */
export function beginMetrics(): void {
  if (counters.size + gauges.size + histograms.size > 0) {
    counters.clear();
    gauges.clear();
    histograms.clear();
  }
}

/** Hands over what the call collected. */
export function finishMetrics(): void {
  if (counters.size + gauges.size + histograms.size === 0) {
    return;
  }
  const { metrics: sink } = host();
  counters.forEach((sum, name) => sink.add(name, sum));
  gauges.forEach((value, name) => sink.set(name, value));
  histograms.forEach((values, name) => sink.observe(name, Float64Array.from(values)));
  beginMetrics();
}
