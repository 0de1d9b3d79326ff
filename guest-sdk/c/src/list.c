/* Many values per key, in the order in which they were appended.
 *
 * What a call appends is encoded at once and leaves with the call. What earlier calls appended stays with the host until
 * the operator iterates, and then comes in pages of which an iterator holds one. So appending costs the same however long a
 * list is, and a list may be longer than the memory.
 */
#include <string.h>

#include "contract.h"

/* Lists whose lengths are asked for at once. */
#define LENGTHS 64
#define FIRST_PAGE 64
#define PAGE 4096
/* The slot of an item that was appended and then cleared. */
#define CLEARED UINT32_MAX
#define NONE UINT32_MAX

typedef struct {
  bool is_cleared;
  bool is_len_known;
  uint64_t host_len;
  /* Indexes of what this call appended: a chain. */
  uint32_t first, last, own_len;
} of_key;

typedef struct {
  uint32_t slot;
  uint32_t next;
} appended;

/* Each item of `appended` and `values` was appended in this call, in order. */
typedef struct {
  of_key *keys;
  fmi_buffer appended;
  fmi_columns values;
} list_call;

/* Buffers outlive the call. */
static list_call calls[FM_STATES_MAX];

void fmi_list_load(fm_state *state) {
  list_call *call = &calls[state->index];
  call->keys = fmi_allocate_zeroed(&fmi_call_arena, fmi_slots, sizeof(of_key));
  fmi_empty(&call->appended);
  fmi_clear(&call->values);
  state->call = call;
}

static of_key *key_of(const fm_list *list) { return &((list_call *)list->state.call)->keys[fmi_slot]; }

static void append(fm_list *list, fm_type type, fmi_datum item) {
  const fm_state *state = &list->state;
  if (!fmi_check(state, type) || !fmi_check_value(state, item)) return;
  list_call *call = state->call;
  fmi_encode(state->type, item, &call->values.bytes);
  fmi_end_item(&call->values);
  of_key *key = key_of(list);
  uint32_t index = (uint32_t)(call->appended.len / sizeof(appended));
  appended *added = fmi_more(&call->appended, sizeof(appended));
  added->slot = fmi_slot;
  added->next = NONE;
  if (key->own_len++ == 0) {
    key->first = index;
  } else {
    ((appended *)call->appended.ptr)[key->last].next = index;
  }
  key->last = index;
}

void fm_list_append_u64(fm_list *list, uint64_t item) { append(list, FM_U64, fmi_of_u64(item)); }
void fm_list_append_i64(fm_list *list, int64_t item) { append(list, FM_I64, fmi_of_u64((uint64_t)item)); }
void fm_list_append_f64(fm_list *list, double item) { append(list, FM_F64, fmi_of_f64(item)); }
void fm_list_append_bool(fm_list *list, bool item) { append(list, FM_BOOL, fmi_of_u64(item)); }
void fm_list_append_bytes(fm_list *list, fm_bytes item) { append(list, FM_RAW, fmi_of_bytes(item)); }

void fm_list_clear(fm_list *list) {
  if (!fmi_check_open(&list->state)) return;
  list_call *call = list->state.call;
  of_key *key = key_of(list);
  uint32_t index = key->first;
  for (; key->own_len != 0; key->own_len--) {
    appended *own = &((appended *)call->appended.ptr)[index];
    own->slot = CLEARED;
    index = own->next;
  }
  key->is_cleared = true;
}

/* Asks for this list's length, and at the same time for those of the keys whose records come next. */
static void ask_lengths(const fm_list *list) {
  of_key *keys = ((list_call *)list->state.call)->keys;
  uint32_t asked[LENGTHS];
  size_t len = 0;
  for (uint32_t slot = fmi_slot; slot < fmi_slots && len < LENGTHS; slot++) {
    if (!keys[slot].is_len_known) asked[len++] = slot;
  }
  fmi_u32s slots = {asked, len};
  fmi_u64s lens;
  fmi_answers = &fmi_record_arena;
  fmi_host_list_len(list->state.index, slots, &lens);
  fmi_answers = &fmi_call_arena;
  if (lens.len != len) fmi_die("the host does not answer for each list");
  for (size_t index = 0; index < len; index++) {
    keys[asked[index]].host_len = lens.ptr[index];
    keys[asked[index]].is_len_known = true;
  }
}

uint64_t fm_list_len(fm_list *list) {
  if (!fmi_check_open(&list->state)) return 0;
  const of_key *key = key_of(list);
  if (!key->is_cleared && !key->is_len_known) ask_lengths(list);
  return (key->is_cleared ? 0 : key->host_len) + key->own_len;
}

static void read_page(const fm_list *list, uint64_t start, uint32_t max, fmi_page *page) {
  fmi_turn_page(page);
  fmi_answers = &page->arena;
  fmi_host_list_read(list->state.index, fmi_slot, start, max, &page->as.items);
  fmi_answers = &fmi_call_arena;
}

bool fm_list_is_empty(fm_list *list) {
  if (!fmi_check_open(&list->state)) return true;
  const of_key *key = key_of(list);
  if (key->is_cleared || key->own_len != 0) return key->own_len == 0;
  if (key->is_len_known) return key->host_len == 0;
  fmi_page *page = fmi_take_page();
  read_page(list, 0, 1, page);
  bool is_empty = page->as.items.values.ends.len == 0;
  fmi_return_page(page);
  return is_empty;
}

fm_items fm_list_items(fm_list *list) {
  fm_items items;
  memset(&items, 0, sizeof items);
  items.list = list;
  items.own = NONE;
  items.has_next = fmi_check_open(&list->state);
  return items;
}

/* The page of this iterator, or NULL after an error. */
static fmi_page *page_of(fm_items *items) {
  if (items->page == NULL) {
    fmi_page *page = fmi_take_page();
    fmi_turn_page(page);
    items->page = page;
    items->page_number = page->number;
  }
  fmi_page *page = items->page;
  if (page->number == items->page_number) return page;
  fm_fail("items of state `%s` are read with a copy of an iterator that has moved on; begin with `fm_list_items` again",
          items->list->state.name);
  return NULL;
}

/* The bytes of the next item. */
static bool next_bytes(fm_items *items, fm_bytes *bytes) {
  const list_call *call = items->list->state.call;
  const of_key *key = key_of(items->list);
  fmi_page *page = page_of(items);
  if (page == NULL) return false;
  if (items->own == NONE) {
    const fmi_items *read = &page->as.items;
    for (;;) {
      if (items->is_begun && items->at < read->values.ends.len) {
        *bytes = fmi_item(&read->values, items->at++);
        return true;
      }
      if (items->is_begun && !read->has_next) break;
      if (key->is_cleared) break;
      read_page(items->list, items->is_begun ? read->next : 0, items->is_begun ? PAGE : FIRST_PAGE, page);
      items->page_number = page->number;
      items->is_begun = true;
      items->at = 0;
    }
    if (key->own_len == 0) return false;
    items->own = key->first;
  } else {
    uint32_t next = ((const appended *)call->appended.ptr)[items->own].next;
    if (next == NONE) return false;
    items->own = next;
  }
  fmi_column values = fmi_column_of(&call->values);
  *bytes = fmi_item(&values, items->own);
  /* The buffer of what this call appended may move. */
  fmi_turn_page(page);
  items->page_number = page->number;
  *bytes = fmi_copy(&page->arena, *bytes);
  return true;
}

static bool is_over(fm_items *items) {
  fmi_page *page = items->page;
  if (page != NULL && page->number == items->page_number) fmi_return_page(page);
  items->page = NULL;
  items->has_next = false;
  items->number = 0;
  items->bytes = fm_view(NULL, 0);
  return false;
}

bool fm_items_next(fm_items *items) {
  fm_bytes bytes;
  if (!items->has_next || fm_has_failed() || !next_bytes(items, &bytes)) return is_over(items);
  fmi_datum item = {0, {NULL, 0}};
  if (!fmi_decode(items->list->state.type, bytes, &item)) {
    fmi_undecodable(&items->list->state);
    return is_over(items);
  }
  items->number = item.number;
  items->bytes = item.bytes;
  return true;
}

uint64_t fm_items_u64(const fm_items *items) { return fmi_check(&items->list->state, FM_U64) ? items->number : 0; }
int64_t fm_items_i64(const fm_items *items) {
  return fmi_check(&items->list->state, FM_I64) ? (int64_t)items->number : 0;
}
double fm_items_f64(const fm_items *items) {
  return fmi_check(&items->list->state, FM_F64) ? fmi_f64_of(items->number) : 0;
}
bool fm_items_bool(const fm_items *items) { return fmi_check(&items->list->state, FM_BOOL) && items->number != 0; }
fm_bytes fm_items_bytes(const fm_items *items) {
  fmi_check(&items->list->state, FM_RAW);
  return items->bytes;
}

void fmi_list_store(const fm_state *state, fmi_output *output) {
  list_call *call = state->call;
  size_t all = call->appended.len / sizeof(appended);
  uint32_t *cleared = fmi_allocate(&fmi_call_arena, fmi_slots * sizeof *cleared, 4);
  uint32_t *slots = fmi_allocate(&fmi_call_arena, all * sizeof *slots, 4);
  size_t cleared_len = 0, len = 0;
  for (uint32_t slot = 0; slot < fmi_slots; slot++) {
    if (call->keys[slot].is_cleared) cleared[cleared_len++] = slot;
  }
  /* What was cleared again leaves no gap. */
  uint32_t *ends = call->values.ends.ptr;
  uint8_t *bytes = call->values.bytes.ptr;
  uint32_t start = 0, end = 0;
  for (size_t index = 0; index < all; index++) {
    uint32_t slot = ((const appended *)call->appended.ptr)[index].slot;
    uint32_t item_end = ends[index];
    if (slot != CLEARED) {
      if (end != start) memmove(bytes + end, bytes + start, item_end - start);
      end += item_end - start;
      ends[len] = end;
      slots[len++] = slot;
    }
    start = item_end;
  }
  if (len == 0 && cleared_len == 0) return;
  fmi_list_writes writes = {state->index, {cleared, cleared_len}, {slots, len}, {{ends, len}, {bytes, end}}};
  output->rest.lists.ptr[output->rest.lists.len++] = writes;
}
