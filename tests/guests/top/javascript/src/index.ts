/**
 * Counts how often each value came for a key, and emits the three most frequent.
 */

import { Operator, type Output, type PluginRecord, text, uint } from "floodmark";

const TOP = 3;

export default class Top extends Operator {
  readonly counts = this.map("counts", text, uint);

  process(record: PluginRecord, out: Output): void {
    const value = record.text;
    this.counts.set(value, (this.counts.get(value) ?? 0) + 1);
    // The sort is stable, so what is equal stays in the order of the sub-keys.
    const counts = [...this.counts].sort(([, one], [, other]) => other - one);
    out.emit(
      counts
        .slice(0, TOP)
        .map(([counted, count]) => `${counted}=${count}`)
        .join(" "),
    );
  }
}
