/**
 * Counts the records of each key: the n-th record of a key emits `n`.
 */

import { Operator, type Output, type PluginRecord, uint } from "floodmark";

export default class WordCount extends Operator {
  readonly count = this.value("count", uint);

  process(_word: PluginRecord, out: Output): void {
    const count = (this.count.get() ?? 0) + 1;
    this.count.set(count);
    out.emit(count);
  }
}
