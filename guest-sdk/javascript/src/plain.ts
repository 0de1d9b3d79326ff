/**
 * The plain call of `operator`, as a conversion to the packed one and back. Only a host that does not know `operator-packed`
 * makes it, and tests, so it is short rather than fast.
 */

import { utf8 } from "./bytes.js";
import type {
  Batch,
  CallOutput,
  Column,
  EmittedValues,
  OptionalColumn,
  PackedBatch,
  PackedOptionalColumn,
  PackedOutput,
  Selection,
} from "./host.js";
import { NO_TIME, Times, bytesOf, halves, packed, packedOptional, timeAt, u32s, unpacked, unpackedOptional } from "./packed.js";

/** A batch as the packed call has it. A time that is no longer exact is refused rather than changed. */
export function packedBatch({ keys, slots, values, timestamps }: Batch): PackedBatch {
  const times = new Times();
  for (const time of timestamps) {
    if (time !== NO_TIME && !Number.isSafeInteger(time)) {
      throw new RangeError(`the event time ${time} is beyond 2^53 ms, which JavaScript cannot count exactly`);
    }
    times.push(time);
  }
  return { keys: packed(keys), slots: bytesOf(slots), values: packed(values), timestamps: times.written() };
}

export function packedStates(states: readonly OptionalColumn[]): PackedOptionalColumn[] {
  return states.map(packedOptional);
}

/** What the packed call returned for a batch, as the plain one says it. */
export function plainOutput(output: PackedOutput, batch: PackedBatch): CallOutput {
  const slots = u32s(batch.slots);
  return {
    emissions: output.emissions.map((emission) => {
      const records = selected(emission.records, slots.length);
      const isSame = emission.keys.tag === "same";
      const times = halves(emission.timestamps.tag === "same" ? batch.timestamps : emission.timestamps.val);
      return {
        output: emission.output,
        keys: emission.keys.tag === "same" ? { tag: "input" } : { tag: "fresh", val: unpacked(emission.keys.val) },
        slots: Uint32Array.from(records, (record, index) => (isSame ? slots[record]! : index)),
        values: emittedColumn(emission.values, records.length),
        timestamps: records.map((record, index) => timeAt(times, emission.timestamps.tag === "same" ? record : index) ?? NO_TIME),
      };
    }),
    values: output.values.map(({ state, slots: written, values }) => ({
      state,
      slots: Uint32Array.from(selected(written, u32s(batch.keys.ends).length)),
      values: unpackedOptional(values),
    })),
    lists: output.lists.map(({ state, cleared, slots: written, values }) => ({
      state,
      cleared: u32s(cleared),
      slots: u32s(written),
      values: unpacked(values),
    })),
    maps: output.maps.map(({ state, cleared, slots: written, subKeys, values }) => ({
      state,
      cleared: u32s(cleared),
      slots: u32s(written),
      subKeys: unpacked(subKeys),
      values: unpackedOptional(values),
    })),
    rejections: output.rejections,
  };
}

function selected(selection: Selection, count: number): number[] {
  return Array.from(selection.tag === "all" ? Array(count).keys() : u32s(selection.val));
}

function emittedColumn(values: EmittedValues, count: number): Column {
  switch (values.tag) {
    case "empty":
      return { ends: new Uint32Array(count), bytes: new Uint8Array(0) };
    case "bytes":
      return unpacked(values.val);
    case "text":
      return { ends: u32s(values.val.ends), bytes: utf8(values.val.text) };
  }
}
