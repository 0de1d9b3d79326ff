/* Catches a walk that holds more than a page, mixes up pages of several iterators, or leaves views that look valid when they
 * are not.
 *
 * The host of the tests answers with three items at a time, so everything here has many pages. How much memory a component
 * needs is not measured here.
 */
#include <stdio.h>
#include <string.h>

#include "floodmark_testing.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
static bool is_gone(fm_bytes view) { return __asan_address_is_poisoned(view.ptr) != 0; }
#else
static bool is_gone(fm_bytes view) { return view.ptr != NULL; }
#endif

enum { ITEMS = 200, PAGE = 3, ASKED = 5000 };

static fm_list list = FM_LIST("list", FM_TEXT);
static fm_map map = FM_MAP("map", FM_SUB_KEY(FM_U32), FM_TEXT);

static fm_bytes item(int index) { return fm_format("item %d, which is somewhat long", index); }
static fm_bytes sub_key(int index) { return fm_sub_key_u32((uint32_t)index); }

static void fill(void) {
  for (int index = 0; index < ITEMS; index++) {
    fm_list_append_bytes(&list, item(index));
    fm_map_put_bytes(&map, sub_key(index), item(index));
  }
}

static void walk_list(int len) {
  fm_bytes views[2 * ITEMS];
  fm_items items = fm_list_items(&list);
  for (int at = 0; at < len; at++) {
    fm_test_is(fm_items_next(&items));
    views[at] = fm_items_bytes(&items);
    fm_test_is(fm_equal(views[at], item(at % ITEMS)));
    fm_test_is(at < PAGE || is_gone(views[at - PAGE]));
  }
  fm_test_is(!fm_items_next(&items));
  fm_test_is(is_gone(views[len - 1]) && fm_items_bytes(&items).len == 0);
  fm_test_is(!fm_items_next(&items));
}

static void walk_map(bool is_descending) {
  fm_bytes views[ITEMS];
  fm_entries entries = fm_map_entries(&map);
  if (is_descending) entries = fm_entries_descending(entries);
  for (int at = 0; at < ITEMS; at++) {
    int index = is_descending ? ITEMS - 1 - at : at;
    fm_test_is(fm_entries_next(&entries));
    views[at] = fm_entries_sub_key(&entries);
    fm_test_is(fm_equal(views[at], sub_key(index)));
    fm_test_is(fm_equal(fm_entries_bytes(&entries), item(index)));
    fm_test_is(at < PAGE || is_gone(views[at - PAGE]));
  }
  fm_test_is(!fm_entries_next(&entries));
  fm_test_is(is_gone(views[ITEMS - 1]) && fm_entries_sub_key(&entries).len == 0);
}

/* For each third item a walk from there over the map, left early or at its end. */
static void walk_nested(void) {
  fm_items items = fm_list_items(&list);
  fm_items others = fm_list_items(&list);
  for (int at = 0; at < ITEMS; at++) {
    fm_test_is(fm_items_next(&items));
    if (at % 2 == 0) fm_test_is(fm_items_next(&others));
    if (at % 3 == 0) {
      fm_entries from = fm_map_range(&map, sub_key(at), sub_key(ITEMS));
      fm_test_is(fm_entries_next(&from));
      /* Its bounds are views of another iterator that moves on. */
      fm_entries entries = fm_map_range(&map, fm_entries_sub_key(&from), sub_key(ITEMS));
      for (int step = 0; step < 2 * PAGE; step++) fm_entries_next(&from);
      int index = at;
      while ((at % 2 == 0 || index < at + 5) && fm_entries_next(&entries)) {
        fm_test_is(fm_equal(fm_entries_sub_key(&entries), sub_key(index)));
        fm_test_is(fm_equal(fm_entries_bytes(&entries), item(index++)));
      }
      fm_test_is(index == (at % 2 == 0 || at + 5 > ITEMS ? ITEMS : at + 5));
    }
    fm_test_is(fm_equal(fm_items_bytes(&items), item(at)));
    fm_test_is(fm_equal(fm_items_bytes(&others), item(at / 2)));
  }
}

static void keep_copies(void) {
  fm_bytes copies[ITEMS];
  fm_items items = fm_list_items(&list);
  for (int at = 0; fm_items_next(&items); at++) copies[at] = fm_copy(fm_items_bytes(&items));
  for (int at = 0; at < ITEMS; at++) fm_test_is(fm_equal(copies[at], item(at)));
}

static void copy_items(void) {
  fm_items items = fm_list_items(&list);
  fm_test_is(fm_items_next(&items));
  fm_items copy = items;
  for (int step = 0; step < PAGE; step++) fm_test_is(fm_items_next(&items));
  fm_test_is(!fm_items_next(&copy));
}

static void copy_entries(void) {
  fm_entries entries = fm_map_entries(&map);
  fm_test_is(fm_entries_next(&entries));
  fm_entries copy = entries;
  while (fm_entries_next(&entries)) continue;
  fm_test_is(!fm_entries_next(&copy));
}

/* The host answers for three of them at a time. */
static void prefetch(void) {
  fm_bytes sub_keys[ASKED];
  for (int index = 0; index < ASKED; index++) sub_keys[index] = sub_key(index);
  fm_map_prefetch(&map, sub_keys, ASKED);
  for (int index = 0; index < ASKED; index++) fm_test_is(fm_map_has(&map, sub_keys[index]) == (index < ITEMS));
}

static void process(const fm_record *record, fm_output *out) {
  (void)out;
  fm_bytes does = record->value;
  if (fm_equal(does, fm_text("fill"))) fill();
  if (fm_equal(does, fm_text("walk"))) walk_list(ITEMS), walk_map(false), walk_map(true);
  if (fm_equal(does, fm_text("append and walk"))) fill(), walk_list(2 * ITEMS), walk_list(2 * ITEMS), fm_list_clear(&list), fill();
  if (fm_equal(does, fm_text("nest"))) walk_nested();
  if (fm_equal(does, fm_text("keep copies"))) keep_copies();
  if (fm_equal(does, fm_text("copy items"))) copy_items();
  if (fm_equal(does, fm_text("copy entries"))) copy_entries();
  if (fm_equal(does, fm_text("prefetch"))) prefetch();
}

const fm_operator floodmark_operator = {.states = {&list.state, &map.state}, .process = process};

int main(void) {
  fm_test_begin(NULL);
  fm_test_send("k", "fill");
  fm_test_run();
  const char *const does[] = {"walk", "nest", "keep copies", "append and walk", "walk", "nest", "prefetch"};
  for (size_t index = 0; index < sizeof does / sizeof does[0]; index++) {
    fm_test_send("k", does[index]);
    fm_test_send("k", does[index]);
    fm_test_run();
  }
  fm_test_send("k", "copy items");
  fm_test_run_fails("items of state `list` are read with a copy of an iterator that has moved on");
  fm_test_send("k", "copy entries");
  fm_test_run_fails("entries of state `map` are read with a copy of an iterator that has moved on");
  return fm_test_end();
}
