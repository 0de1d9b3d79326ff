/**
 * Keeps the last values of each key and emits them with each record.
 *
 * Appending is cheap and a list has no way to drop its head, so it is cut only once it is twice as long as it needs to be.
 */

import { type Config, Operator, type Output, type PluginRecord, text } from "floodmark";

export default class History extends Operator {
  readonly values = this.list("values", text);
  private length = 5;

  override open(config: Config): void {
    this.length = config.integer("length", 5);
    if (this.length < 0) {
      throw new Error(`option \`length\` is \`${this.length}\`: it is below 0`);
    }
  }

  process(record: PluginRecord, out: Output): void {
    this.values.push(record.text);
    const all = this.values.toArray();
    const excess = Math.max(0, all.length - this.length);
    const values = all.slice(excess);
    if (excess >= this.length) {
      this.values.replace(values);
    }
    out.emit(`${values.length} ${values.join(",")}`);
  }
}
