/**
 * Which record is being processed, for all parts of an operator: variables of this module, since an interpreter reads one in a
 * single step, but searches for each property on the way to a field of an object.
 *
 * Calls do not nest, so one place serves all operators of a process.
 */

import type { Operator, PluginRecord } from "./operator.js";
import type { Output } from "./output.js";

/** The index of the record among those of the call, and the slot of its key; -1 outside of `process`. */
export let currentRecord = -1;
export let currentSlot = -1;

/** Hands an operator one record after the other, and `check` what it returns, unless that is nothing. */
export function eachRecord(
  slots: Uint32Array,
  operator: Operator,
  record: PluginRecord,
  output: Output,
  check: (returned: unknown) => void,
): void {
  const records = slots.length;
  try {
    for (let index = 0; index < records; index++) {
      currentRecord = index;
      currentSlot = slots[index]!;
      const returned: unknown = operator.process(record, output);
      if (returned !== undefined) {
        check(returned);
      }
    }
  } finally {
    currentRecord = currentSlot = -1;
  }
}
