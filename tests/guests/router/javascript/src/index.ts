/**
 * Sends numbers to several outputs, and refuses what is not a number.
 */

import { type Config, Operator, type Output, type PluginRecord, readable } from "floodmark";

const I64_MAX = 2n ** 63n - 1n;

export default class Router extends Operator {
  readonly small = this.output("small");
  readonly large = this.output("large");
  readonly odd = this.output("odd");
  private limit = 100n;

  override open(config: Config): void {
    this.limit = config.bigint("limit", 100n);
  }

  process(record: PluginRecord, out: Output): void {
    const value = record.tryText();
    const number = value !== undefined && /^-?[0-9]+$/.test(value) ? BigInt(value) : I64_MAX + 1n;
    if (value === undefined || number > I64_MAX || number < -I64_MAX - 1n) {
      out.reject(`not a number: ${value ?? readable(record.value)}`);
      return;
    }
    out.emit(value, { to: number < this.limit ? this.small : this.large });
    if (number % 2n !== 0n) {
      out.emit(value, { to: this.odd, key: "odd", time: 0 });
    }
  }
}
