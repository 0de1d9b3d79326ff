/* Catches a map or a list that shows something else than what was written to it, within a call and across calls.
 *
 * Each record does one random thing to the states and to a plain model, and compares them. The model is an ordinary variable,
 * so it survives; batches and instances end at random.
 */
#include <stdio.h>
#include <string.h>

#include "floodmark_testing.h"

enum { KEYS = 3, SUB_KEYS = 12, ITEMS_MAX = 4096 };

static fm_map map = FM_MAP("map", FM_SUB_KEY(FM_I16), FM_U64);
static fm_list list = FM_LIST("list", FM_I64);

static struct {
  uint64_t entries[SUB_KEYS];
  int64_t items[ITEMS_MAX];
  size_t items_len;
} model[KEYS];

static uint64_t seed = 1;
static uint32_t random_below(uint32_t end) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(seed >> 33) % end;
}

/* Sub-keys around zero: 0 is -6. */
static fm_bytes sub_key(uint32_t index) { return fm_sub_key_i16((int16_t)((int)index - SUB_KEYS / 2)); }

static void check_entries(const uint64_t *expected, uint32_t start, uint32_t end, bool is_descending) {
  fm_entries entries = start == 0 && end == SUB_KEYS ? fm_map_entries(&map) : fm_map_range(&map, sub_key(start), sub_key(end));
  if (is_descending) entries = fm_entries_descending(entries);
  for (uint32_t step = start; step < end; step++) {
    uint32_t index = is_descending ? end - 1 - (step - start) : step;
    if (expected[index] == 0) continue;
    fm_test_is(fm_entries_next(&entries));
    fm_test_is(fm_equal(fm_entries_sub_key(&entries), sub_key(index)));
    fm_test_is(fm_entries_u64(&entries) == expected[index]);
  }
  fm_test_is(!fm_entries_next(&entries));
}

static void check_items(size_t which) {
  fm_items items = fm_list_items(&list);
  for (size_t at = 0; at < model[which].items_len; at++) {
    fm_test_is(fm_items_next(&items));
    fm_test_is(fm_items_i64(&items) == model[which].items[at]);
  }
  fm_test_is(!fm_items_next(&items));
}

static void process(const fm_record *record, fm_output *out) {
  (void)out;
  size_t which = record->key.ptr[0];
  uint64_t *entries = model[which].entries;
  uint32_t index = random_below(SUB_KEYS), other = random_below(SUB_KEYS + 1);
  uint64_t number = random_below(1000) + 1;
  fm_bytes both[] = {sub_key(index), sub_key(random_below(SUB_KEYS)), sub_key(0), sub_key(1), sub_key(2)};
  switch (random_below(40)) {
    case 0:
      fm_map_clear(&map);
      memset(entries, 0, SUB_KEYS * sizeof *entries);
      break;
    case 1:
      fm_list_clear(&list);
      model[which].items_len = 0;
      break;
    case 2:
      fm_map_prefetch(&map, both, 5);
      break;
    case 3:
      check_items(which);
      break;
    case 4:
      fm_test_is(fm_list_len(&list) == model[which].items_len);
      break;
    case 5:
      fm_test_is(fm_list_is_empty(&list) == (model[which].items_len == 0));
      break;
    default:
      switch (random_below(7)) {
        case 0:
        case 1:
          fm_map_put_u64(&map, sub_key(index), number);
          entries[index] = number;
          break;
        case 2:
          fm_map_remove(&map, sub_key(index));
          entries[index] = 0;
          break;
        case 3:
          fm_test_is(fm_map_get_u64(&map, sub_key(index), 0) == entries[index]);
          fm_test_is(fm_map_has(&map, sub_key(index)) == (entries[index] != 0));
          break;
        case 4:
          fm_list_append_i64(&list, (int64_t)number - 500);
          model[which].items[model[which].items_len++] = (int64_t)number - 500;
          break;
        case 5:
          check_entries(entries, 0, SUB_KEYS, number % 2 == 0);
          break;
        default:
          if (other == SUB_KEYS) other--;
          check_entries(entries, index < other ? index : other, index < other ? other : index, number % 2 == 0);
      }
  }
}

const fm_operator floodmark_operator = {.states = {&list.state, &map.state}, .process = process};

int main(void) {
  fm_test_begin(NULL);
  for (int batch = 0; batch < 3000; batch++) {
    for (uint32_t records = random_below(8) + 1; records > 0; records--) {
      uint8_t key = (uint8_t)random_below(KEYS);
      fm_test_send_as(NULL, fm_view(&key, 1), fm_text(""), 0);
    }
    fm_test_run();
    if (random_below(3) == 0) fm_test_kill();
  }
  return fm_test_end();
}
