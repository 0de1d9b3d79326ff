/* Counts, in a map of each key, how often each value came, and emits the three most frequent ones with their counts. */
#include <floodmark.h>

#define TOP 3

static fm_map counts = FM_MAP("counts", FM_SUB_KEY(FM_TEXT), FM_U64);

typedef struct {
  fm_bytes value;
  uint64_t count;
} entry;

/* Puts an entry among those with the highest counts, and returns how many these are. Of equal counts the first one stays in
 * front. */
static size_t rank(entry *top, size_t len, entry added) {
  size_t place = len;
  while (place > 0 && top[place - 1].count < added.count) place--;
  if (place == TOP) return len;
  if (len < TOP) len++;
  for (size_t at = len - 1; at > place; at--) top[at] = top[at - 1];
  top[place] = added;
  return len;
}

static void process(const fm_record *record, fm_output *out) {
  fm_bytes value = record->value;
  if (!fm_is_utf8(value)) {
    fm_fail("the value `%s` is not UTF-8", fm_readable(value));
    return;
  }
  fm_map_put_u64(&counts, value, fm_map_get_u64(&counts, value, 0) + 1);
  entry top[TOP];
  size_t len = 0;
  fm_entries entries = fm_map_entries(&counts);
  while (fm_entries_next(&entries)) {
    entry next = {fm_copy(fm_entries_sub_key(&entries)), fm_entries_u64(&entries)};
    len = rank(top, len, next);
  }
  fm_bytes text = fm_text("");
  for (size_t at = 0; at < len; at++) {
    if (at != 0) text = fm_join(text, fm_text(" "));
    text = fm_join(fm_join(text, top[at].value), fm_format("=%llu", (unsigned long long)top[at].count));
  }
  fm_emit(out, text);
}

const fm_operator floodmark_operator = {
    .states = {&counts.state},
    .process = process,
};
