/**
 * Lets the first record of each key through; a key that was silent for an hour is new again.
 */

import { Operator, type Output, type PluginRecord, unit } from "floodmark";

export default class Dedupe extends Operator {
  readonly seen = this.value("seen", unit, { ttl: "1h" });

  process(record: PluginRecord, out: Output): void {
    if (!this.seen.has()) {
      out.emit(record.value);
    }
    this.seen.set(null);
  }
}
