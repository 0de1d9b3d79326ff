/**
 * Adds to each record what a second input last said of its key.
 */

import { Operator, type Output, type PluginRecord, text } from "floodmark";

export default class Enrich extends Operator {
  readonly records = this.input("records");
  readonly profiles = this.input("profiles");
  readonly profile = this.value("profile", text);

  process(record: PluginRecord, out: Output): void {
    if (record.input === this.records) {
      out.emit(`${record.text}|${this.profile.get() ?? "?"}`);
    } else if (record.value.length === 0) {
      this.profile.clear();
    } else {
      this.profile.set(record.text);
    }
  }
}
