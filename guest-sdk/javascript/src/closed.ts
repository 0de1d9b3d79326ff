/**
 * The world as an operator finds it: a `console` that is the job's log, and neither a clock nor randomness, since a replay after
 * a failure has to give the same output. What would need one throws a sentence that says so.
 *
 * The entry module of a component closes the world permanently, before the operator's own modules are loaded; a unit test closes
 * it for each call.
 */

import { textIfUtf8, utf8 } from "./bytes.js";
import { log } from "./report.js";

type World = Record<string, unknown>;

function none(what: string): () => never {
  return () => {
    throw new Error(`there is no \`${what}\` in an operator: a replay after a failure would give other output; ${HINT}`);
  };
}

const HINT = "take times from records, and draw numbers from keys and values";

const RealDate = Date;

/** `Date` for given times only. */
const ClosedDate = new Proxy(RealDate, {
  construct(target, args: unknown[], newTarget) {
    return args.length === 0 ? none("new Date()")() : (Reflect.construct(target, args, newTarget) as object);
  },
  apply: none("Date()"),
  get: (target, name, receiver) => (name === "now" ? none("Date.now") : (Reflect.get(target, name, receiver) as unknown)),
});

const closedConsole = {
  ...log,
  log: log.info,
  assert(isTrue: unknown, ...what: unknown[]): void {
    if (!isTrue) {
      log.error("assertion failed", ...what);
    }
  },
};

/** What texts of other libraries may need. */
class Encoder {
  readonly encoding = "utf-8";
  encode(text = ""): Uint8Array {
    return utf8(text);
  }
}

class Decoder {
  readonly encoding = "utf-8";
  decode(bytes: Uint8Array = new Uint8Array(0)): string {
    const text = textIfUtf8(bytes);
    if (text === undefined) {
      throw new TypeError("the bytes are not UTF-8");
    }
    return text;
  }
}

/** Closes the world; returns how to open it again. */
export function closeWorld(): () => void {
  const world = globalThis as unknown as World;
  const before = { console: world["console"], Date: world["Date"], performance: world["performance"], random: Math.random };
  world["console"] = closedConsole;
  world["Date"] = ClosedDate;
  Object.defineProperty(world, "performance", { value: { now: none("performance.now") }, configurable: true, writable: true });
  Math.random = none("Math.random");
  world["TextEncoder"] ??= Encoder;
  world["TextDecoder"] ??= Decoder;
  return () => {
    world["console"] = before.console;
    world["Date"] = before.Date;
    world["performance"] = before.performance;
    Math.random = before.random;
  };
}
