/* Joins records with the profile of their key: `value|profile`, or `value|?` as long as there is none.
 *
 * A record of `profiles` sets the profile of its key; an empty one clears it.
 */
#include <floodmark.h>

enum { RECORDS, PROFILES };

static fm_value profile = FM_VALUE("profile", FM_TEXT);

static void process(const fm_record *record, fm_output *out) {
  if (record->input == PROFILES) {
    if (record->value.len == 0) {
      fm_value_clear(&profile);
    } else {
      fm_value_set_bytes(&profile, record->value);
    }
    return;
  }
  fm_bytes known = fm_value_get_bytes(&profile, fm_text("?"));
  fm_emit(out, fm_join(fm_join(record->value, fm_text("|")), known));
}

const fm_operator floodmark_operator = {
    .states = {&profile.state},
    .inputs = {"records", "profiles"},
    .process = process,
};
