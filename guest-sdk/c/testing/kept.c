/* What the task of a test keeps, and the reads of it that the host answers in the middle of a call.
 *
 * Small numbers on purpose: answers have few items, so that a test meets more than one page.
 */
#include "kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_ITEMS 3

uint64_t kept_now_ms;
const fmi_column *kept_keys;

static kept_row *rows;
static size_t rows_len, rows_cap;

void *kept_memory(size_t bytes) {
  void *memory = calloc(1, bytes + 1);
  if (memory == NULL) {
    fprintf(stderr, "there is no more memory for this test\n");
    exit(1);
  }
  return memory;
}

fm_bytes kept_copy(fm_bytes bytes) {
  uint8_t *copy = kept_memory(bytes.len);
  if (bytes.len != 0) memcpy(copy, bytes.ptr, bytes.len);
  return fm_view(copy, bytes.len);
}

static int order_of(const kept_row *row, uint16_t state, fm_bytes key, fm_bytes sub_key) {
  if (row->state != state) return row->state < state ? -1 : 1;
  int order = fm_compare(row->key, key);
  return order != 0 ? order : fm_compare(row->sub_key, sub_key);
}

/* The first row that is not below. */
static size_t place_of(uint16_t state, fm_bytes key, fm_bytes sub_key) {
  size_t place = 0;
  while (place < rows_len && order_of(&rows[place], state, key, sub_key) < 0) place++;
  return place;
}

void kept_put(uint16_t state, fm_bytes key, fm_bytes sub_key, fm_bytes value) {
  size_t place = place_of(state, key, sub_key);
  bool is_there = place < rows_len && order_of(&rows[place], state, key, sub_key) == 0;
  if (!is_there) {
    if (rows_len == rows_cap) {
      rows_cap = rows_cap * 2 + 64;
      kept_row *more = kept_memory(rows_cap * sizeof *rows);
      if (rows_len != 0) memcpy(more, rows, rows_len * sizeof *rows);
      rows = more;
    }
    memmove(rows + place + 1, rows + place, (rows_len++ - place) * sizeof *rows);
  }
  kept_row row = {state, kept_copy(key), kept_copy(sub_key), kept_copy(value), kept_now_ms};
  rows[place] = row;
}

static void remove_at(size_t place) { memmove(rows + place, rows + place + 1, (--rows_len - place) * sizeof *rows); }

void kept_remove(uint16_t state, fm_bytes key, fm_bytes sub_key) {
  size_t place = place_of(state, key, sub_key);
  if (place < rows_len && order_of(&rows[place], state, key, sub_key) == 0) remove_at(place);
}

void kept_clear(uint16_t state, fm_bytes key) {
  size_t place = place_of(state, key, fm_text(""));
  while (place < rows_len && rows[place].state == state && fm_equal(rows[place].key, key)) remove_at(place);
}

void kept_append(uint16_t state, fm_bytes key, fm_bytes value) {
  uint64_t position = 0;
  for (size_t place = place_of(state, key, fm_text("")); place < rows_len; place++) {
    if (rows[place].state != state || !fm_equal(rows[place].key, key)) break;
    fm_bytes sub_key = rows[place].sub_key;
    position = fm_sub_key_take_unsigned(&sub_key, 8) + 1;
  }
  kept_put(state, key, fm_sub_key_u64(position), value);
}

void kept_forget_all(void) {
  rows_len = 0;
  kept_now_ms = 0;
}

kept_row **kept_rows(uint16_t state, fm_bytes key, size_t *len) {
  uint64_t ttl_ms = floodmark_operator.states[state]->ttl_ms;
  kept_row **found = kept_memory(rows_len * sizeof *found);
  *len = 0;
  for (size_t place = place_of(state, key, fm_text("")); place < rows_len; place++) {
    if (rows[place].state != state || !fm_equal(rows[place].key, key)) break;
    if (ttl_ms == 0 || kept_now_ms < rows[place].written_ms + ttl_ms) found[(*len)++] = &rows[place];
  }
  return found;
}

/* ---- The host's answers ---- */

static kept_row **read_rows(uint16_t state, uint32_t slot, size_t *len) {
  if (kept_keys == NULL || slot >= kept_keys->ends.len) fmi_die("lists and maps can be read only within `process`");
  return kept_rows(state, fmi_item(kept_keys, slot), len);
}

/* A column that lives as long as the answer. */
static void push(fmi_column *column, fm_bytes item) {
  size_t len = column->ends.len, bytes = column->bytes.len;
  uint32_t *ends = fmi_allocate(fmi_answers, (len + 1) * sizeof *ends, sizeof *ends);
  uint8_t *all = fmi_allocate(fmi_answers, bytes + item.len, 1);
  if (len != 0) memcpy(ends, column->ends.ptr, len * sizeof *ends);
  if (bytes != 0) memcpy(all, column->bytes.ptr, bytes);
  if (item.len != 0) memcpy(all + bytes, item.ptr, item.len);
  ends[len] = (uint32_t)(bytes + item.len);
  column->ends.ptr = ends;
  column->ends.len = len + 1;
  column->bytes = fm_view(all, bytes + item.len);
}

void fmi_host_map_get(uint16_t state, fmi_u32s slots, const fmi_column *sub_keys, fmi_optional_column *values) {
  fmi_column found = {{NULL, 0}, {NULL, 0}};
  uint8_t *present = fmi_allocate_zeroed(fmi_answers, 1, 1);
  for (size_t index = 0; index < slots.len && index < PAGE_ITEMS; index++) {
    size_t len;
    kept_row **of_key = read_rows(state, slots.ptr[index], &len);
    fm_bytes value = fm_text("");
    for (size_t at = 0; at < len; at++) {
      if (!fm_equal(of_key[at]->sub_key, fmi_item(sub_keys, index))) continue;
      value = of_key[at]->value;
      *present |= (uint8_t)(1 << index);
    }
    push(&found, value);
  }
  values->present = fm_view(present, 1);
  values->ends = found.ends;
  values->bytes = found.bytes;
}

void fmi_host_map_scan(uint16_t state, uint32_t slot, fm_bytes start, const fm_bytes *end, bool is_descending, uint32_t max,
                       fmi_entries *entries) {
  size_t len;
  kept_row **of_key = read_rows(state, slot, &len);
  memset(entries, 0, sizeof *entries);
  for (size_t at = 0; at < len; at++) {
    kept_row *row = of_key[is_descending ? len - 1 - at : at];
    bool is_outside = fm_compare(row->sub_key, start) < 0 || (end != NULL && fm_compare(row->sub_key, *end) >= 0);
    if (is_outside) continue;
    if (entries->sub_keys.ends.len == (max == 0 ? 1 : max) || entries->sub_keys.ends.len == PAGE_ITEMS) {
      entries->has_more = 1;
      return;
    }
    push(&entries->sub_keys, row->sub_key);
    push(&entries->values, row->value);
  }
}

void fmi_host_list_read(uint16_t state, uint32_t slot, uint64_t start, uint32_t max, fmi_items *items) {
  size_t len;
  kept_row **of_key = read_rows(state, slot, &len);
  memset(items, 0, sizeof *items);
  for (size_t at = 0; at < len; at++) {
    fm_bytes sub_key = of_key[at]->sub_key;
    uint64_t position = fm_sub_key_take_unsigned(&sub_key, 8);
    if (position < start) continue;
    if (items->values.ends.len == (max == 0 ? 1 : max) || items->values.ends.len == PAGE_ITEMS) {
      items->has_next = 1;
      items->next = position;
      return;
    }
    push(&items->values, of_key[at]->value);
  }
}

void fmi_host_list_len(uint16_t state, fmi_u32s slots, fmi_u64s *lens) {
  uint64_t *all = fmi_allocate(fmi_answers, slots.len * sizeof *all, sizeof *all);
  for (size_t index = 0; index < slots.len; index++) {
    size_t len;
    read_rows(state, slots.ptr[index], &len);
    all[index] = len;
  }
  lens->ptr = all;
  lens->len = slots.len;
}
