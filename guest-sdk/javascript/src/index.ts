/**
 * Write an operator for Floodmark in TypeScript or JavaScript: what it does with one record, and what it keeps for the key.
 *
 *     import { Operator, type Output, type PluginRecord, uint } from "floodmark";
 *
 *     export default class WordCount extends Operator {
 *       readonly count = this.value("count", uint);
 *
 *       process(_word: PluginRecord, out: Output): void {
 *         const count = (this.count.get() ?? 0) + 1;
 *         this.count.set(count);
 *         out.emit(count);
 *       }
 *     }
 *
 * `floodmark build` makes a component of the folder; `floodmark/testing` runs an operator in a unit test.
 */

export { readable } from "./bytes.js";
export { Config } from "./config.js";
export {
  type Codec,
  type FixedSubKeyCodec,
  type SubKeyCodec,
  bool,
  f64,
  i8,
  i16,
  i32,
  i64,
  int,
  json,
  raw,
  text,
  tuple,
  u8,
  u16,
  u32,
  u64,
  uint,
  unit,
} from "./encoding.js";
export { ListState } from "./list.js";
export { MapState, type Range } from "./map.js";
export { type InputOptions, Operator, PluginRecord, Port } from "./operator.js";
export { Output, type Otherwise, type Payload } from "./output.js";
export { log, metrics } from "./report.js";
export { type InputColumn, type Migration, type StateOptions, ValueState, from } from "./state.js";
