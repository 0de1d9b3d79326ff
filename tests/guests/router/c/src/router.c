/* Sends small numbers one way and large ones another, and odd ones also a third way, under the key `odd` and without their
 * time. What is not a number is rejected.
 */
#include <floodmark.h>

enum { SMALL, LARGE, ODD };

static struct {
  int64_t limit;
} self;

static void open(const fm_config *config) { self.limit = fm_config_i64(config, "limit", 100); }

static void process(const fm_record *record, fm_output *out) {
  int64_t number;
  if (!fm_parse_i64(record->value, &number)) {
    fm_reject(out, "not a number: %.*s", FM_SHOWN(record->value));
    return;
  }
  fm_emit_to(out, number < self.limit ? SMALL : LARGE, record->value);
  if (number % 2 != 0) fm_emit_key_at(out, ODD, fm_text("odd"), 0, record->value);
}

const fm_operator floodmark_operator = {
    .outputs = {"small", "large", "odd"},
    FM_MEMORY(self),
    .open = open,
    .process = process,
};
