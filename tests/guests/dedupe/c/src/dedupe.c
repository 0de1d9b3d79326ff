/* Lets one record of each key through, and the next one only when none came for an hour. */
#include <floodmark.h>

static fm_value seen = FM_VALUE("seen", FM_UNIT, .ttl_ms = FM_HOURS(1));

static void process(const fm_record *record, fm_output *out) {
  if (!fm_value_is_set(&seen)) fm_emit(out, record->value);
  fm_value_set_unit(&seen);
}

const fm_operator floodmark_operator = {
    .states = {&seen.state},
    .process = process,
};
