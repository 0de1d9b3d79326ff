/* How values and sub-keys become bytes: the same in the SDKs of all languages (`guest-sdk/encodings.json`).
 *
 * Values are as postcard writes them; sub-keys are bytes that sort like their values, which is all that the host knows of
 * them.
 */
#include <string.h>

#include "contract.h"

const char *fmi_type_name(fm_type type) {
  static const char *const names[] = {"nothing", "u64", "i64", "bool", "f64", "text", "unit", "bytes",
                                      "JSON",    "u8",  "u16", "u32",  "i8",  "i16",  "i32"};
  return (size_t)type < sizeof names / sizeof names[0] ? names[type] : "nothing";
}

static void put_varint(uint64_t number, fmi_buffer *bytes) {
  enum { VARINT_BYTES_MAX = 10 };
  uint8_t *digits = fmi_more(bytes, VARINT_BYTES_MAX);
  size_t len = 0;
  for (; number >= 0x80; number >>= 7) digits[len++] = (uint8_t)(number | 0x80);
  digits[len++] = (uint8_t)number;
  bytes->len -= VARINT_BYTES_MAX - len;
}

/* How many bytes the number has; 0 if it is not a number. */
static size_t take_varint(fm_bytes bytes, uint64_t *number) {
  uint64_t read = 0;
  for (size_t index = 0; index < bytes.len && index < 10; index++) {
    uint8_t byte = bytes.ptr[index];
    if (index == 9 && byte > 1) return 0;
    read |= (uint64_t)(byte & 0x7f) << (7 * index);
    if (byte < 0x80) {
      *number = read;
      return index + 1;
    }
  }
  return 0;
}

void fmi_encode(fm_type type, fmi_datum value, fmi_buffer *bytes) {
  switch (type) {
    case FM_U64:
      put_varint(value.number, bytes);
      break;
    case FM_I64:
      put_varint((value.number << 1) ^ (0 - (value.number >> 63)), bytes);
      break;
    case FM_BOOL:
      *(uint8_t *)fmi_more(bytes, 1) = value.number != 0;
      break;
    case FM_F64: {
      uint8_t *at = fmi_more(bytes, 8);
      for (int index = 0; index < 8; index++) at[index] = (uint8_t)(value.number >> (8 * index));
      break;
    }
    case FM_TEXT:
      put_varint(value.bytes.len, bytes);
      fmi_append(bytes, value.bytes);
      break;
    case FM_RAW:
      fmi_append(bytes, value.bytes);
      break;
    case FM_JSON:
      fmi_value_to_json(FM_JSON, value.bytes, bytes);
      break;
    default:
      break;
  }
}

bool fmi_decode(fm_type type, fm_bytes bytes, fmi_datum *value) {
  uint64_t number = 0;
  size_t len;
  switch (type) {
    case FM_U64:
    case FM_I64:
      len = take_varint(bytes, &number);
      value->number = type == FM_U64 ? number : (number >> 1) ^ (0 - (number & 1));
      return len != 0 && len == bytes.len;
    case FM_BOOL:
      if (bytes.len != 1 || bytes.ptr[0] > 1) return false;
      value->number = bytes.ptr[0];
      return true;
    case FM_F64:
      if (bytes.len != 8) return false;
      for (int index = 0; index < 8; index++) number |= (uint64_t)bytes.ptr[index] << (8 * index);
      value->number = number;
      return true;
    case FM_TEXT:
      len = take_varint(bytes, &number);
      if (len == 0 || number != bytes.len - len) return false;
      value->bytes = fm_view(bytes.ptr + len, bytes.len - len);
      return fm_is_utf8(value->bytes);
    case FM_UNIT:
      return bytes.len == 0;
    case FM_RAW:
      value->bytes = bytes;
      return true;
    case FM_JSON:
      value->bytes = bytes;
      return fmi_is_json(bytes);
    default:
      return false;
  }
}

bool fmi_is_valid(fm_type type, fmi_datum value) {
  if (type == FM_TEXT) return fm_is_utf8(value.bytes);
  return type != FM_JSON || fmi_is_json(value.bytes);
}

/* ---- Sub-keys ---- */

size_t fmi_fixed_bytes(fm_type type) {
  switch (type) {
    case FM_U8:
    case FM_I8:
    case FM_BOOL:
      return 1;
    case FM_U16:
    case FM_I16:
      return 2;
    case FM_U32:
    case FM_I32:
      return 4;
    case FM_U64:
    case FM_I64:
      return 8;
    default:
      return 0;
  }
}

bool fmi_is_sub_key(const fm_state *state, fm_bytes sub_key) {
  for (size_t part = 0; part < FM_SUB_KEY_PARTS_MAX && state->sub_key[part] != FM_NOTHING; part++) {
    fm_type type = state->sub_key[part];
    if (type == FM_TEXT) return fm_is_utf8(sub_key);
    if (type == FM_RAW) return true;
    size_t len = fmi_fixed_bytes(type);
    if (sub_key.len < len || (type == FM_BOOL && sub_key.ptr[0] > 1)) return false;
    sub_key = fm_view(sub_key.ptr + len, sub_key.len - len);
  }
  return sub_key.len == 0;
}

fm_bytes fm_sub_key_unsigned(uint64_t value, size_t len) {
  uint8_t *bytes = fmi_allocate(&fmi_record_arena, 8, 1);
  for (size_t index = 0; index < 8; index++) bytes[index] = (uint8_t)(value >> (56 - 8 * index));
  return len > 8 ? fm_view(bytes, 0) : fm_view(bytes + 8 - len, len);
}

static uint64_t sign_of(size_t len) { return len == 0 || len > 8 ? 0 : (uint64_t)1 << (8 * len - 1); }

fm_bytes fm_sub_key_signed(int64_t value, size_t len) {
  return fm_sub_key_unsigned((uint64_t)value ^ sign_of(len), len);
}

uint64_t fm_sub_key_take_unsigned(fm_bytes *rest, size_t len) {
  if (len > 8 || rest->len < len) {
    fm_fail("a sub-key, or what is left of one, has %zu bytes instead of %zu", rest->len, len);
    return 0;
  }
  uint64_t value = 0;
  for (size_t index = 0; index < len; index++) value = value << 8 | rest->ptr[index];
  *rest = fm_view(rest->ptr + len, rest->len - len);
  return value;
}

int64_t fm_sub_key_take_signed(fm_bytes *rest, size_t len) {
  uint64_t value = fm_sub_key_take_unsigned(rest, len) ^ sign_of(len);
  uint64_t sign = sign_of(len);
  /* Carries the sign into the upper bits. */
  return (int64_t)((value ^ sign) - sign);
}

/* ---- What a plugin knows of its values ---- */

struct fm_migrated {
  const fm_state *state;
  fmi_buffer *bytes;
  bool is_set;
};

static fmi_columns results;

static const fm_state *state_at(uint16_t index) {
  for (uint16_t at = 0; at < FM_STATES_MAX && floodmark_operator.states[at] != NULL; at++) {
    if (at == index) return floodmark_operator.states[at];
  }
  fm_fail("there is no state %u", (unsigned)index);
  return NULL;
}

static void begin(void) {
  fmi_error = fm_view(NULL, 0);
  fmi_reset(&fmi_record_arena);
  fmi_clear(&results);
}

static void finish(fmi_result *result) {
  memset(result, 0, sizeof *result);
  result->is_error = fm_has_failed();
  if (result->is_error) {
    result->as.error = fmi_error;
  } else {
    result->as.column = fmi_column_of(&results);
  }
}

static const fm_migration *migration_of(const fm_state *state, uint32_t from) {
  for (size_t index = 0; index < FM_MIGRATIONS_MAX; index++) {
    const fm_migration *migration = &state->migrations[index];
    if (migration->with != NULL && migration->from == from) return migration;
  }
  unsigned version = state->version == 0 ? 1 : state->version;
  fm_fail(
      "state `%s` is declared in version %u and says nothing of version %u; add `{.from = %u, .with = function}` to its "
      "`migrations`, or run the plugin that wrote it",
      state->name, version, (unsigned)from, (unsigned)from);
  return NULL;
}

void fmi_migrate(uint16_t index, uint32_t from_version, const fmi_column *values, fmi_result *result) {
  begin();
  const fm_state *state = state_at(index);
  const fm_migration *migration = state == NULL ? NULL : migration_of(state, from_version);
  for (size_t item = 0; item < values->ends.len && !fm_has_failed(); item++) {
    fmi_reset(&fmi_record_arena);
    fm_migrated now = {state, &results.bytes, false};
    migration->with(fmi_item(values, item), &now);
    if (!now.is_set) fm_fail("the migration of state `%s` hands over no value; call `fm_migrated_...`", state->name);
    fmi_end_item(&results);
    fmi_within("item %zu", item);
  }
  finish(result);
}

static void migrated(fm_migrated *now, fm_type type, fmi_datum value) {
  const fm_state *state = now->state;
  bool is_of_type = state->type == type || (type == FM_RAW && fmi_is_bytes(state->type));
  if (!is_of_type) fm_fail("state `%s` keeps %s; its migration hands over something else", state->name, fmi_type_name(state->type));
  if (now->is_set) fm_fail("the migration of state `%s` hands over two values", state->name);
  now->is_set = true;
  if (!fm_has_failed() && fmi_check_value(state, value)) fmi_encode(state->type, value, now->bytes);
}

void fm_migrated_u64(fm_migrated *now, uint64_t value) { migrated(now, FM_U64, fmi_of_u64(value)); }
void fm_migrated_i64(fm_migrated *now, int64_t value) { migrated(now, FM_I64, fmi_of_u64((uint64_t)value)); }
void fm_migrated_f64(fm_migrated *now, double value) { migrated(now, FM_F64, fmi_of_f64(value)); }
void fm_migrated_bool(fm_migrated *now, bool value) { migrated(now, FM_BOOL, fmi_of_u64(value)); }
void fm_migrated_bytes(fm_migrated *now, fm_bytes value) { migrated(now, FM_RAW, fmi_of_bytes(value)); }
void fm_migrated_unit(fm_migrated *now) { migrated(now, FM_UNIT, fmi_of_u64(0)); }

static fmi_datum decoded(fm_type type, fm_bytes old) {
  fmi_datum value = {0, {NULL, 0}};
  if (!fmi_decode(type, old, &value)) fm_fail("`%s` is not a valid %s", fm_readable(old), fmi_type_name(type));
  return value;
}

uint64_t fm_decode_u64(fm_bytes old) { return decoded(FM_U64, old).number; }
int64_t fm_decode_i64(fm_bytes old) { return (int64_t)decoded(FM_I64, old).number; }
double fm_decode_f64(fm_bytes old) { return fmi_f64_of(decoded(FM_F64, old).number); }
bool fm_decode_bool(fm_bytes old) { return decoded(FM_BOOL, old).number != 0; }
fm_bytes fm_decode_text(fm_bytes old) { return decoded(FM_TEXT, old).bytes; }

typedef bool each_function(const fm_state *state, uint8_t part, fm_bytes item);

static bool item_to_json(const fm_state *state, uint8_t part, fm_bytes item) {
  return part == 0 ? fmi_value_to_json(state->type, item, &results.bytes)
                   : fmi_sub_key_to_json(state, item, &results.bytes);
}

static bool item_from_json(const fm_state *state, uint8_t part, fm_bytes item) {
  return part == 0 ? fmi_value_from_json(state->type, item, &results.bytes)
                   : fmi_sub_key_from_json(state, item, &results.bytes);
}

static void each(uint16_t index, uint8_t part, const fmi_column *items, each_function *write, fmi_result *result) {
  begin();
  const fm_state *state = state_at(index);
  if (part != 0 && state != NULL && state->kind != FM_KIND_MAP) fm_fail("state `%s` has no sub-keys", state->name);
  for (size_t item = 0; item < items->ends.len && !fm_has_failed(); item++) {
    fmi_reset(&fmi_record_arena);
    fm_bytes bytes = fmi_item(items, item);
    if (!write(state, part, bytes)) {
      const char *what = part == 0 ? "not a value" : "not a sub-key";
      fm_fail("`%s` is %s of state `%s`, which keeps %s", fm_readable(bytes), what, state->name, fmi_type_name(state->type));
    }
    fmi_end_item(&results);
    fmi_within("item %zu", item);
  }
  finish(result);
}

void fmi_to_json(uint16_t state, uint8_t part, const fmi_column *values, fmi_result *result) {
  each(state, part, values, item_to_json, result);
}

void fmi_from_json(uint16_t state, uint8_t part, const fmi_column *texts, fmi_result *result) {
  each(state, part, texts, item_from_json, result);
}
