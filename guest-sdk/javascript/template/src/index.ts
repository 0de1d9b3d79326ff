/**
 * Counts the records of each key: for the n-th one it emits `n`.
 */

import { Operator, type Output, type PluginRecord, metrics, uint } from "floodmark";

export default class Counter extends Operator {
  // What is kept for each key. Other states are `this.list(..)` and `this.map(..)`.
  readonly count = this.value("count", uint);

  process(_record: PluginRecord, out: Output): void {
    const count = (this.count.get() ?? 0) + 1;
    this.count.set(count);
    if (count === 1) {
      metrics.add("keys");
    }
    out.emit(count);
  }
}
