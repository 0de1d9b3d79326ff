/* Many values per key, each under a sub-key, in the order of the sub-keys.
 *
 * Entries come from the host one by one when they are asked for, or in pages during iteration. What a call has read or
 * written is kept until its end, sorted, so an entry costs the host one look-up per call however often it is used, and what the
 * call has written is laid over what the host has. Of its pages an iterator holds one, so a map may be larger than the memory.
 */
#include <string.h>

#include "contract.h"

#define FIRST_PAGE 32
#define PAGE 4096
/* Sub-keys of one question. */
#define ASKED 1024
#define SUB_KEY_BYTES_MAX 65536

enum { PRESENT = 1, CHANGED = 2 };

typedef struct {
  fm_bytes sub_key;
  fmi_datum value;
  uint8_t flags;
} entry;

/* What this call knows of one key's map, sorted by sub-key. Once `is_cleared`, the host's entries do not count. */
typedef struct {
  entry **entries;
  size_t len;
  size_t cap;
  bool is_cleared;
} of_key;

void fmi_map_load(fm_state *state) {
  state->call = fmi_allocate_zeroed(&fmi_call_arena, fmi_slots, sizeof(of_key));
}

static of_key *key_of(const fm_map *map) { return &((of_key *)map->state.call)[fmi_slot]; }

/* The place of the first entry whose sub-key is not below this one. */
static size_t place_of(const of_key *key, fm_bytes sub_key) {
  size_t start = 0, end = key->len;
  /* Many maps are filled in order. */
  if (end != 0 && fm_compare(key->entries[end - 1]->sub_key, sub_key) < 0) return end;
  while (start < end) {
    size_t middle = start + (end - start) / 2;
    if (fm_compare(key->entries[middle]->sub_key, sub_key) < 0) {
      start = middle + 1;
    } else {
      end = middle;
    }
  }
  return start;
}

static entry *entry_at(const of_key *key, size_t place, fm_bytes sub_key) {
  bool is_there = place < key->len && fm_equal(key->entries[place]->sub_key, sub_key);
  return is_there ? key->entries[place] : NULL;
}

static entry *insert(of_key *key, size_t place, fm_bytes sub_key) {
  if (key->len == key->cap) {
    size_t cap = key->cap == 0 ? 4 : key->cap * 2;
    entry **entries = fmi_allocate(&fmi_call_arena, cap * sizeof *entries, sizeof *entries);
    if (key->len != 0) memcpy(entries, key->entries, key->len * sizeof *entries);
    key->entries = entries;
    key->cap = cap;
  }
  memmove(key->entries + place + 1, key->entries + place, (key->len - place) * sizeof *key->entries);
  entry *added = fmi_allocate_zeroed(&fmi_call_arena, 1, sizeof *added);
  added->sub_key = fmi_copy(&fmi_call_arena, sub_key);
  key->entries[place] = added;
  key->len++;
  return added;
}

static bool check_sub_key(const fm_state *state, fm_bytes sub_key) {
  if (!fmi_check_open(state)) return false;
  if (sub_key.len > SUB_KEY_BYTES_MAX) {
    fm_fail("a sub-key of state `%s` has %zu bytes; %d are allowed", state->name, sub_key.len, SUB_KEY_BYTES_MAX);
  } else if (!fmi_is_sub_key(state, sub_key)) {
    fm_fail("`%s` is not a sub-key of state `%s`; make it as its declaration says", fm_readable(sub_key), state->name);
  }
  return !fm_has_failed();
}

/* Gets entries from the host that this call does not know yet. */
static void ask(const fm_map *map, const fm_bytes *sub_keys, size_t len) {
  of_key *key = key_of(map);
  size_t max = len < ASKED ? len : ASKED;
  uint32_t *slots = fmi_allocate(&fmi_record_arena, max * sizeof *slots, 4);
  uint32_t *ends = fmi_allocate(&fmi_record_arena, max * sizeof *ends, 4);
  size_t bytes = 0;
  for (size_t index = 0; index < len; index++) bytes += sub_keys[index].len;
  fmi_buffer all = {fmi_allocate(&fmi_record_arena, bytes, 1), 0, bytes};
  /* The host answers for as many as it likes, one at least. */
  while (len != 0) {
    size_t asked_len = len < max ? len : max;
    all.len = 0;
    for (size_t index = 0; index < asked_len; index++) {
      slots[index] = fmi_slot;
      fmi_append(&all, sub_keys[index]);
      ends[index] = (uint32_t)all.len;
    }
    fmi_column asked = {{ends, asked_len}, fmi_bytes_of(&all)};
    fmi_u32s of_slots = {slots, asked_len};
    fmi_optional_column answer;
    fmi_host_map_get(map->state.index, of_slots, &asked, &answer);
    fmi_column values = fmi_column_of_optional(&answer);
    size_t answered = values.ends.len;
    if (answered == 0 || answered > asked_len) fmi_die("the host does not answer for one sub-key at least");
    for (size_t index = 0; index < answered; index++) {
      size_t place = place_of(key, sub_keys[index]);
      if (entry_at(key, place, sub_keys[index]) != NULL) continue;
      entry *added = insert(key, place, sub_keys[index]);
      if (!fmi_is_present(&answer, index)) continue;
      added->flags = PRESENT;
      if (!fmi_decode(map->state.type, fmi_item(&values, index), &added->value)) fmi_undecodable(&map->state);
    }
    sub_keys += answered;
    len -= answered;
  }
}

/* What this call knows of a sub-key; asks the host first if that is nothing. NULL if there is no value, or on errors. */
static const fmi_datum *get(fm_map *map, fm_type type, fm_bytes sub_key) {
  if (type != FM_NOTHING && !fmi_check(&map->state, type)) return NULL;
  if (!check_sub_key(&map->state, sub_key)) return NULL;
  of_key *key = key_of(map);
  size_t place = place_of(key, sub_key);
  const entry *known = entry_at(key, place, sub_key);
  if (known == NULL && key->is_cleared) return NULL;
  if (known == NULL) {
    ask(map, &sub_key, 1);
    known = entry_at(key, place, sub_key);
  }
  return known->flags & PRESENT ? &known->value : NULL;
}

static void put(fm_map *map, fm_type type, fm_bytes sub_key, fmi_datum value) {
  const fm_state *state = &map->state;
  if (!fmi_check(state, type) || !check_sub_key(state, sub_key) || !fmi_check_value(state, value)) return;
  of_key *key = key_of(map);
  size_t place = place_of(key, sub_key);
  entry *entry = entry_at(key, place, sub_key);
  if (entry == NULL) entry = insert(key, place, sub_key);
  if (type == FM_RAW) value.bytes = fmi_copy(&fmi_call_arena, value.bytes);
  entry->value = value;
  entry->flags = PRESENT | CHANGED;
}

void fm_map_remove(fm_map *map, fm_bytes sub_key) {
  if (!check_sub_key(&map->state, sub_key)) return;
  of_key *key = key_of(map);
  size_t place = place_of(key, sub_key);
  entry *entry = entry_at(key, place, sub_key);
  if (entry == NULL) {
    insert(key, place, sub_key)->flags = CHANGED;
  } else if (entry->flags & PRESENT) {
    entry->flags = CHANGED;
  }
}

void fm_map_clear(fm_map *map) {
  if (!fmi_check_open(&map->state)) return;
  of_key *key = key_of(map);
  key->is_cleared = true;
  key->len = 0;
}

void fm_map_prefetch(fm_map *map, const fm_bytes *sub_keys, size_t len) {
  if (!fmi_check_open(&map->state) || key_of(map)->is_cleared) return;
  fm_bytes *asked = fmi_allocate(&fmi_record_arena, len * sizeof *asked, sizeof(void *));
  size_t asked_len = 0;
  for (size_t index = 0; index < len; index++) {
    if (!check_sub_key(&map->state, sub_keys[index])) return;
    const of_key *key = key_of(map);
    if (entry_at(key, place_of(key, sub_keys[index]), sub_keys[index]) == NULL) asked[asked_len++] = sub_keys[index];
  }
  if (asked_len != 0) ask(map, asked, asked_len);
}

bool fm_map_has(fm_map *map, fm_bytes sub_key) { return get(map, FM_NOTHING, sub_key) != NULL; }

uint64_t fm_map_get_u64(fm_map *map, fm_bytes sub_key, uint64_t or_else) {
  const fmi_datum *found = get(map, FM_U64, sub_key);
  return found == NULL ? or_else : found->number;
}

int64_t fm_map_get_i64(fm_map *map, fm_bytes sub_key, int64_t or_else) {
  const fmi_datum *found = get(map, FM_I64, sub_key);
  return found == NULL ? or_else : (int64_t)found->number;
}

double fm_map_get_f64(fm_map *map, fm_bytes sub_key, double or_else) {
  const fmi_datum *found = get(map, FM_F64, sub_key);
  return found == NULL ? or_else : fmi_f64_of(found->number);
}

bool fm_map_get_bool(fm_map *map, fm_bytes sub_key, bool or_else) {
  const fmi_datum *found = get(map, FM_BOOL, sub_key);
  return found == NULL ? or_else : found->number != 0;
}

fm_bytes fm_map_get_bytes(fm_map *map, fm_bytes sub_key, fm_bytes or_else) {
  const fmi_datum *found = get(map, FM_RAW, sub_key);
  return found == NULL ? or_else : found->bytes;
}

void fm_map_put_u64(fm_map *map, fm_bytes sub_key, uint64_t to) { put(map, FM_U64, sub_key, fmi_of_u64(to)); }
void fm_map_put_i64(fm_map *map, fm_bytes sub_key, int64_t to) { put(map, FM_I64, sub_key, fmi_of_u64((uint64_t)to)); }
void fm_map_put_f64(fm_map *map, fm_bytes sub_key, double to) { put(map, FM_F64, sub_key, fmi_of_f64(to)); }
void fm_map_put_bool(fm_map *map, fm_bytes sub_key, bool to) { put(map, FM_BOOL, sub_key, fmi_of_u64(to)); }
void fm_map_put_bytes(fm_map *map, fm_bytes sub_key, fm_bytes to) { put(map, FM_RAW, sub_key, fmi_of_bytes(to)); }
void fm_map_put_unit(fm_map *map, fm_bytes sub_key) { put(map, FM_UNIT, sub_key, fmi_of_u64(0)); }

/* ---- Iteration ---- */

static fm_entries entries_of(fm_map *map) {
  fm_entries entries;
  memset(&entries, 0, sizeof entries);
  entries.map = map;
  entries.page_len = FIRST_PAGE;
  entries.is_over = !fmi_check_open(&map->state);
  return entries;
}

fm_entries fm_map_entries(fm_map *map) { return entries_of(map); }

fm_entries fm_map_range(fm_map *map, fm_bytes start, fm_bytes end) {
  fm_entries entries = entries_of(map);
  /* They may be views of another iterator. */
  entries.start = entries.host_start = fm_copy(start);
  entries.end = entries.host_end = fm_copy(end);
  entries.has_end = entries.host_has_end = true;
  entries.is_over |= fm_compare(start, end) >= 0;
  return entries;
}

fm_entries fm_entries_descending(fm_entries entries) {
  if (entries.is_begun) fm_fail("the order of entries is chosen before the first one is taken");
  entries.is_descending = true;
  return entries;
}

/* What this call knows of the next sub-key, if anything. `sub_key` is the one that was returned last. */
static const entry *own_next(const fm_entries *entries, const of_key *key) {
  size_t place;
  if (entries->is_descending) {
    place = key->len;
    if (entries->is_begun) {
      place = place_of(key, entries->sub_key);
    } else if (entries->has_end) {
      place = place_of(key, entries->end);
    }
    if (place == 0) return NULL;
    const entry *own = key->entries[place - 1];
    return fm_compare(own->sub_key, entries->start) < 0 ? NULL : own;
  }
  place = place_of(key, entries->is_begun ? entries->sub_key : entries->start);
  if (entries->is_begun && entry_at(key, place, entries->sub_key) != NULL) place++;
  if (place == key->len) return NULL;
  const entry *own = key->entries[place];
  return entries->has_end && fm_compare(own->sub_key, entries->end) >= 0 ? NULL : own;
}

/* The next page of the host starts behind the last entry of this one. */
static void move_bound(fm_entries *entries, fmi_page *page) {
  const fmi_column *sub_keys = &page->as.entries.sub_keys;
  if (sub_keys->ends.len == 0) return;
  fmi_empty(&page->bound);
  fmi_append(&page->bound, fmi_item(sub_keys, sub_keys->ends.len - 1));
  if (entries->is_descending) {
    entries->host_end = fmi_bytes_of(&page->bound);
    entries->host_has_end = true;
  } else {
    fmi_append(&page->bound, fm_view("", 1));
    entries->host_start = fmi_bytes_of(&page->bound);
  }
}

/* The page with the host's next entry, or NULL if it has no more. */
static const fmi_entries *host_next(fm_entries *entries, const of_key *key) {
  for (;;) {
    fmi_page *page = entries->page;
    if (key->is_cleared) return NULL;
    if (page != NULL && entries->at < page->as.entries.sub_keys.ends.len) return &page->as.entries;
    if (page != NULL && !page->as.entries.has_more) return NULL;
    if (page == NULL) entries->page = page = fmi_take_page();
    fmi_turn_page(page);
    fmi_answers = &page->arena;
    fmi_host_map_scan(entries->map->state.index, fmi_slot, entries->host_start,
                      entries->host_has_end ? &entries->host_end : NULL, entries->is_descending, entries->page_len,
                      &page->as.entries);
    fmi_answers = &fmi_call_arena;
    entries->page_number = page->number;
    entries->page_len = PAGE;
    entries->at = 0;
    move_bound(entries, page);
  }
}

/* Whether its page is still its own; fails if not. */
static bool has_page(const fm_entries *entries) {
  const fmi_page *page = entries->page;
  if (page == NULL || page->number == entries->page_number) return true;
  fm_fail("entries of state `%s` are read with a copy of an iterator that has moved on; begin with `fm_map_entries` again",
          entries->map->state.name);
  return false;
}

bool fm_entries_next(fm_entries *entries) {
  const of_key *key = entries->is_over ? NULL : key_of(entries->map);
  while (!entries->is_over && !fm_has_failed() && has_page(entries)) {
    const entry *own = own_next(entries, key);
    const fmi_entries *page = host_next(entries, key);
    if (own == NULL && page == NULL) break;
    int order = own == NULL ? -1 : 1;
    fm_bytes host = page == NULL ? fm_view(NULL, 0) : fmi_item(&page->sub_keys, entries->at);
    if (own != NULL && page != NULL) {
      order = fm_compare(host, own->sub_key);
      if (entries->is_descending) order = -order;
    }
    entries->is_begun = true;
    fmi_datum value = {0, {NULL, 0}};
    if (order < 0) {
      entries->sub_key = host;
      if (!fmi_decode(entries->map->state.type, fmi_item(&page->values, entries->at++), &value)) {
        fmi_undecodable(&entries->map->state);
        break;
      }
    } else {
      /* What this call knows is newer than what the host has. */
      if (order == 0) entries->at++;
      entries->sub_key = own->sub_key;
      if (!(own->flags & PRESENT)) continue;
      value = own->value;
    }
    entries->number = value.number;
    entries->bytes = value.bytes;
    return true;
  }
  fmi_page *page = entries->page;
  if (page != NULL && page->number == entries->page_number) fmi_return_page(page);
  entries->page = NULL;
  entries->is_over = true;
  entries->sub_key = entries->bytes = fm_view(NULL, 0);
  entries->number = 0;
  return false;
}

fm_bytes fm_entries_sub_key(const fm_entries *entries) { return entries->sub_key; }
uint64_t fm_entries_u64(const fm_entries *entries) {
  return fmi_check(&entries->map->state, FM_U64) ? entries->number : 0;
}
int64_t fm_entries_i64(const fm_entries *entries) {
  return fmi_check(&entries->map->state, FM_I64) ? (int64_t)entries->number : 0;
}
double fm_entries_f64(const fm_entries *entries) {
  return fmi_check(&entries->map->state, FM_F64) ? fmi_f64_of(entries->number) : 0;
}
bool fm_entries_bool(const fm_entries *entries) {
  return fmi_check(&entries->map->state, FM_BOOL) && entries->number != 0;
}
fm_bytes fm_entries_bytes(const fm_entries *entries) {
  fmi_check(&entries->map->state, FM_RAW);
  return entries->bytes;
}

void fmi_map_store(const fm_state *state, fmi_output *output) {
  const of_key *keys = state->call;
  size_t len = 0, sub_keys_max = 0, values_max = 0, cleared_len = 0;
  for (uint32_t slot = 0; slot < fmi_slots; slot++) {
    cleared_len += keys[slot].is_cleared;
    for (size_t index = 0; index < keys[slot].len; index++) {
      const entry *entry = keys[slot].entries[index];
      if (!(entry->flags & CHANGED)) continue;
      len++;
      sub_keys_max += entry->sub_key.len;
      values_max += entry->value.bytes.len + 10;
    }
  }
  if (len == 0 && cleared_len == 0) return;
  uint32_t *cleared = fmi_allocate(&fmi_call_arena, cleared_len * sizeof *cleared, 4);
  uint32_t *slots = fmi_allocate(&fmi_call_arena, len * sizeof *slots, 4);
  uint32_t *sub_ends = fmi_allocate(&fmi_call_arena, len * sizeof *sub_ends, 4);
  uint32_t *ends = fmi_allocate(&fmi_call_arena, len * sizeof *ends, 4);
  uint8_t *present = fmi_allocate_zeroed(&fmi_call_arena, (len + 7) / 8, 1);
  fmi_buffer sub_keys = {fmi_allocate(&fmi_call_arena, sub_keys_max, 1), 0, sub_keys_max};
  fmi_buffer values = {fmi_allocate(&fmi_call_arena, values_max, 1), 0, values_max};
  size_t at = 0, cleared_at = 0;
  for (uint32_t slot = 0; slot < fmi_slots; slot++) {
    if (keys[slot].is_cleared) cleared[cleared_at++] = slot;
    for (size_t index = 0; index < keys[slot].len; index++) {
      const entry *entry = keys[slot].entries[index];
      if (!(entry->flags & CHANGED)) continue;
      if (entry->flags & PRESENT) {
        fmi_encode(state->type, entry->value, &values);
        present[at / 8] |= (uint8_t)(1 << (at % 8));
      }
      fmi_append(&sub_keys, entry->sub_key);
      slots[at] = slot;
      sub_ends[at] = (uint32_t)sub_keys.len;
      ends[at++] = (uint32_t)values.len;
    }
  }
  fmi_map_writes writes = {state->index,
                           {cleared, cleared_len},
                           {slots, len},
                           {{sub_ends, len}, fmi_bytes_of(&sub_keys)},
                           {{present, (len + 7) / 8}, {ends, len}, fmi_bytes_of(&values)}};
  output->rest.maps.ptr[output->rest.maps.len++] = writes;
}
