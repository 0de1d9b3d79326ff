/* One value per key.
 *
 * Values come with the call and are decoded when they are first read; changed ones are encoded once, after the last
 * record. So a key costs one of each at most, however many records it has.
 */
#include <string.h>

#include "contract.h"

enum { KNOWN = 1, PRESENT = 2, CHANGED = 4 };

typedef struct {
  fmi_datum value;
  uint8_t flags;
} cell;

/* `cells` has one cell for each key of the call. */
typedef struct {
  cell *cells;
  fmi_optional_column current;
} value_call;

void fmi_value_load(fm_state *state, const fmi_optional_column *current) {
  if (current->ends.len != fmi_slots) fmi_die("the host does not hand over one value for each key");
  value_call *call = fmi_allocate(&fmi_call_arena, sizeof *call, 8);
  call->cells = fmi_allocate_zeroed(&fmi_call_arena, fmi_slots, sizeof(cell));
  call->current = *current;
  state->call = call;
}

static cell *current_cell(const fm_state *state) { return &((value_call *)state->call)->cells[fmi_slot]; }

/* The cell of the current key, with what the host knows. */
static cell *look(const fm_state *state) {
  cell *cell = current_cell(state);
  if (cell->flags & KNOWN) return cell;
  cell->flags |= KNOWN;
  const value_call *call = state->call;
  if (fmi_is_present(&call->current, fmi_slot)) {
    fmi_column values = fmi_column_of_optional(&call->current);
    if (!fmi_decode(state->type, fmi_item(&values, fmi_slot), &cell->value)) {
      fmi_undecodable(state);
      return cell;
    }
    cell->flags |= PRESENT;
  }
  return cell;
}

/* The value if there is one, and if it is of this type. */
static const fmi_datum *get(fm_value *value, fm_type type) {
  if (!fmi_check(&value->state, type)) return NULL;
  const cell *cell = look(&value->state);
  return cell->flags & PRESENT ? &cell->value : NULL;
}

static void set(fm_value *value, fm_type type, fmi_datum to) {
  if (!fmi_check(&value->state, type)) return;
  cell *cell = current_cell(&value->state);
  cell->value = to;
  cell->flags = KNOWN | PRESENT | CHANGED;
}

bool fm_value_is_set(fm_value *value) {
  return fmi_check_open(&value->state) && (look(&value->state)->flags & PRESENT) != 0;
}

void fm_value_clear(fm_value *value) {
  if (!fmi_check_open(&value->state)) return;
  cell *cell = look(&value->state);
  if (cell->flags & PRESENT) cell->flags = KNOWN | CHANGED;
}

uint64_t fm_value_get_u64(fm_value *value, uint64_t or_else) {
  const fmi_datum *found = get(value, FM_U64);
  return found == NULL ? or_else : found->number;
}

int64_t fm_value_get_i64(fm_value *value, int64_t or_else) {
  const fmi_datum *found = get(value, FM_I64);
  return found == NULL ? or_else : (int64_t)found->number;
}

double fm_value_get_f64(fm_value *value, double or_else) {
  const fmi_datum *found = get(value, FM_F64);
  return found == NULL ? or_else : fmi_f64_of(found->number);
}

bool fm_value_get_bool(fm_value *value, bool or_else) {
  const fmi_datum *found = get(value, FM_BOOL);
  return found == NULL ? or_else : found->number != 0;
}

fm_bytes fm_value_get_bytes(fm_value *value, fm_bytes or_else) {
  const fmi_datum *found = get(value, FM_RAW);
  return found == NULL ? or_else : found->bytes;
}

void fm_value_set_u64(fm_value *value, uint64_t to) { set(value, FM_U64, fmi_of_u64(to)); }
void fm_value_set_i64(fm_value *value, int64_t to) { set(value, FM_I64, fmi_of_u64((uint64_t)to)); }
void fm_value_set_f64(fm_value *value, double to) { set(value, FM_F64, fmi_of_f64(to)); }
void fm_value_set_bool(fm_value *value, bool to) { set(value, FM_BOOL, fmi_of_u64(to)); }
void fm_value_set_unit(fm_value *value) { set(value, FM_UNIT, fmi_of_u64(0)); }

void fm_value_set_bytes(fm_value *value, fm_bytes to) {
  if (!fmi_check(&value->state, FM_RAW) || !fmi_check_value(&value->state, fmi_of_bytes(to))) return;
  set(value, FM_RAW, fmi_of_bytes(fmi_copy(&fmi_call_arena, to)));
}

void fmi_value_store(const fm_state *state, fmi_output *output) {
  const value_call *call = state->call;
  size_t len = 0, bytes_max = 0;
  for (uint32_t slot = 0; slot < fmi_slots; slot++) {
    bool is_changed = (call->cells[slot].flags & CHANGED) != 0;
    len += is_changed;
    bytes_max += is_changed ? call->cells[slot].value.bytes.len + 10 : 0;
  }
  if (len == 0) return;
  bool is_listed = len != fmi_slots;
  uint32_t *slots = is_listed ? fmi_allocate(&fmi_call_arena, len * sizeof *slots, 4) : NULL;
  uint32_t *ends = fmi_allocate(&fmi_call_arena, len * sizeof *ends, 4);
  uint8_t *present = fmi_allocate_zeroed(&fmi_call_arena, (len + 7) / 8, 1);
  fmi_buffer bytes = {fmi_allocate(&fmi_call_arena, bytes_max, 1), 0, bytes_max};
  size_t index = 0;
  for (uint32_t slot = 0; slot < fmi_slots; slot++) {
    const cell *cell = &call->cells[slot];
    if (!(cell->flags & CHANGED)) continue;
    if (cell->flags & PRESENT) {
      fmi_encode(state->type, cell->value, &bytes);
      present[index / 8] |= (uint8_t)(1 << (index % 8));
    }
    if (is_listed) slots[index] = slot;
    ends[index++] = (uint32_t)bytes.len;
  }
  fmi_value_writes writes = {state->index,
                             {is_listed, {slots, is_listed ? len : 0}},
                             {{present, (len + 7) / 8}, {ends, len}, fmi_bytes_of(&bytes)}};
  output->values.ptr[output->values.len++] = writes;
}
