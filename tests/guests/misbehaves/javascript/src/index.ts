/**
 * Misbehaves as each value says, to test how the job handles it.
 *
 * Nothing that a program throws is the end of QuickJS, but a recursion without end is: the stack of the instance runs out before
 * the interpreter notices.
 */

import { Operator, type Output, type PluginRecord, log } from "floodmark";

export default class Misbehaves extends Operator {
  process(record: PluginRecord, out: Output): void {
    const value = record.value;
    switch (record.tryText()) {
      case "trap":
        deeper(0);
        break;
      case "loop":
        for (;;) {}
      case "memory":
        fillMemory();
        break;
      case "error":
        throw new Error("as asked");
      case "log":
        log.info("hello");
        break;
      default:
        out.emit(value);
    }
  }
}

function deeper(depth: number): number {
  return deeper(depth + 1) + 1;
}

function fillMemory(): void {
  const kept: Uint8Array[] = [];
  for (;;) {
    kept.push(new Uint8Array(1 << 20).fill(1));
  }
}
