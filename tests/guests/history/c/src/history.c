/* Keeps the last values of each key in a list: emits how many there are and all of them, the oldest first. */
#include <floodmark.h>

static fm_list values = FM_LIST("values", FM_TEXT);

static struct {
  /* How many values are kept. */
  uint64_t length;
} self;

static void open(const fm_config *config) { self.length = fm_config_u64(config, "length", 5); }

static void process(const fm_record *record, fm_output *out) {
  if (!fm_is_utf8(record->value)) {
    fm_fail("the value `%s` is not UTF-8", fm_readable(record->value));
    return;
  }
  fm_list_append_bytes(&values, record->value);
  /* A list loses items only all at once, so it is made short when it is twice as long as it needs to be. */
  uint64_t len = fm_list_len(&values);
  uint64_t excess = len > self.length ? len - self.length : 0;
  uint64_t kept_len = len - excess;
  fm_bytes *kept = fm_scratch((size_t)kept_len * sizeof *kept);
  fm_bytes text = fm_format("%llu ", (unsigned long long)kept_len);
  fm_items items = fm_list_items(&values);
  for (uint64_t at = 0; fm_items_next(&items); at++) {
    if (at < excess) continue;
    fm_bytes item = fm_copy(fm_items_bytes(&items));
    kept[at - excess] = item;
    text = fm_join(at == excess ? text : fm_join(text, fm_text(",")), item);
  }
  if (excess >= self.length) {
    fm_list_clear(&values);
    for (uint64_t at = 0; at < kept_len; at++) fm_list_append_bytes(&values, kept[at]);
  }
  fm_emit(out, text);
}

const fm_operator floodmark_operator = {
    .states = {&values.state},
    FM_MEMORY(self),
    .open = open,
    .process = process,
};
