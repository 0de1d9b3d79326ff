/* `process` of `wit/operator.wit`: slots, times and empty values are written out.
 *
 * It is for hosts that know nothing else, and for tests, so it is simple rather than fast.
 */
#include <string.h>

#include "contract.h"

static fmi_u32s counted(size_t len) {
  uint32_t *places = fmi_allocate(&fmi_call_arena, len * sizeof *places, 4);
  for (size_t place = 0; place < len; place++) places[place] = (uint32_t)place;
  fmi_u32s counted = {places, len};
  return counted;
}

static fmi_u32s places_of(const fmi_selection *selection, size_t items) {
  return selection->is_listed ? selection->listed : counted(items);
}

static fmi_plain_emission plain_emission(const fmi_emission *from, const fmi_batch *batch) {
  fmi_u32s records = places_of(&from->records, batch->slots.len);
  uint32_t *slots = fmi_allocate(&fmi_call_arena, records.len * sizeof *slots, 4);
  int64_t *timestamps = fmi_allocate(&fmi_call_arena, records.len * sizeof *timestamps, 8);
  for (size_t index = 0; index < records.len; index++) {
    slots[index] = batch->slots.ptr[records.ptr[index]];
    timestamps[index] = batch->timestamps.ptr[records.ptr[index]];
  }
  fmi_plain_emission made = {.output = from->output, .slots = {slots, records.len}, .timestamps = {timestamps, records.len}};
  made.keys.is_fresh = from->keys.is_fresh;
  made.keys.fresh = from->keys.fresh;
  if (from->keys.is_fresh) made.slots = counted(records.len);
  made.values = from->values.column;
  if (!from->values.are_there) {
    made.values.ends.ptr = fmi_allocate_zeroed(&fmi_call_arena, records.len, sizeof(uint32_t));
    made.values.ends.len = records.len;
  }
  if (from->timestamps.are_fresh) made.timestamps = from->timestamps.fresh;
  return made;
}

void fmi_process_plain(uint16_t input, const fmi_batch *batch, const fmi_optional_column *states, size_t len,
                       fmi_result *result) {
  fmi_process(input, batch, states, len, result);
  if (result->is_error) return;
  fmi_output output = result->as.output;
  fmi_plain_emission *emissions = fmi_allocate(&fmi_call_arena, output.emissions.len * sizeof *emissions, 8);
  for (size_t index = 0; index < output.emissions.len; index++) {
    emissions[index] = plain_emission(&output.emissions.ptr[index], batch);
  }
  fmi_plain_value_writes *values = fmi_allocate(&fmi_call_arena, output.values.len * sizeof *values, 8);
  for (size_t index = 0; index < output.values.len; index++) {
    const fmi_value_writes *writes = &output.values.ptr[index];
    fmi_plain_value_writes made = {writes->state, places_of(&writes->slots, batch->keys.ends.len), writes->values};
    values[index] = made;
  }
  fmi_plain_output plain = {{emissions, output.emissions.len}, {values, output.values.len}, output.rest};
  result->as.plain = plain;
}
