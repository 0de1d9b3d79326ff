/* The contract as C structs, and what the files of the SDK share.
 *
 * On wasm32 the structs lie in memory as the canonical ABI wants the records of `wit/`: pointer and length for a list or a
 * string, a byte in front of a variant. So nothing is converted at the boundary. Natively the same functions work on the
 * same structs, and `testing/` is the host. Nothing here is for operators.
 */
#ifndef FLOODMARK_CONTRACT_H
#define FLOODMARK_CONTRACT_H

#include <stdarg.h>
#include <string.h>

#include "floodmark.h"

typedef struct {
  const uint32_t *ptr;
  size_t len;
} fmi_u32s;

typedef struct {
  const int64_t *ptr;
  size_t len;
} fmi_i64s;

typedef struct {
  fmi_u32s ends;
  fm_bytes bytes;
} fmi_column;

typedef struct {
  fm_bytes present;
  fmi_u32s ends;
  fm_bytes bytes;
} fmi_optional_column;

typedef struct {
  fmi_column keys;
  fmi_u32s slots;
  fmi_column values;
  fmi_i64s timestamps;
} fmi_batch;

typedef struct {
  fm_bytes name;
  uint8_t kind;
  uint32_t version;
  uint8_t has_ttl;
  uint64_t ttl_ms;
} fmi_declaration;

typedef struct {
  fm_bytes name;
  fm_bytes version;
  struct {
    const fmi_declaration *ptr;
    size_t len;
  } states;
  struct fmi_strings {
    const fm_bytes *ptr;
    size_t len;
  } inputs, outputs;
} fmi_description;

/* Which columns of an input port calls come without. */
typedef struct {
  uint16_t input;
  uint8_t values;
  uint8_t timestamps;
} fmi_unread;

/* Some of the records or slots of a call: all of them, in order, unless they are listed. */
typedef struct {
  uint8_t is_listed;
  fmi_u32s listed;
} fmi_selection;

/* What `wit/operator-compact.wit` says of a call. `plain.c` says the same without references to what was given. */
typedef struct {
  uint16_t output;
  fmi_selection records;
  struct {
    uint8_t is_fresh;
    fmi_column fresh;
  } keys;
  struct {
    uint8_t are_there;
    fmi_column column;
  } values;
  struct {
    uint8_t are_fresh;
    fmi_i64s fresh;
  } timestamps;
} fmi_emission;

typedef struct {
  uint16_t state;
  fmi_selection slots;
  fmi_optional_column values;
} fmi_value_writes;

typedef struct {
  uint16_t output;
  struct {
    uint8_t is_fresh;
    fmi_column fresh;
  } keys;
  fmi_u32s slots;
  fmi_column values;
  fmi_i64s timestamps;
} fmi_plain_emission;

typedef struct {
  uint16_t state;
  fmi_u32s slots;
  fmi_optional_column values;
} fmi_plain_value_writes;

typedef struct {
  uint16_t state;
  fmi_u32s cleared;
  fmi_u32s slots;
  fmi_column values;
} fmi_list_writes;

typedef struct {
  uint16_t state;
  fmi_u32s cleared;
  fmi_u32s slots;
  fmi_column sub_keys;
  fmi_optional_column values;
} fmi_map_writes;

typedef struct {
  uint32_t record;
  fm_bytes reason;
} fmi_rejection;

/* What of an output is the same in both. */
typedef struct {
  struct {
    fmi_list_writes *ptr;
    size_t len;
  } lists;
  struct {
    fmi_map_writes *ptr;
    size_t len;
  } maps;
  struct {
    const fmi_rejection *ptr;
    size_t len;
  } rejections;
} fmi_output_rest;

typedef struct {
  struct {
    const fmi_emission *ptr;
    size_t len;
  } emissions;
  struct {
    fmi_value_writes *ptr;
    size_t len;
  } values;
  fmi_output_rest rest;
} fmi_output;

typedef struct {
  struct {
    const fmi_plain_emission *ptr;
    size_t len;
  } emissions;
  struct {
    const fmi_plain_value_writes *ptr;
    size_t len;
  } values;
  fmi_output_rest rest;
} fmi_plain_output;

/* `result<output, string>` of both kinds, `result<column, string>` and `result<_, string>`. */
typedef struct {
  uint8_t is_error;
  union {
    fmi_output output;
    fmi_plain_output plain;
    fmi_column column;
    fm_bytes error;
  } as;
} fmi_result;

typedef struct {
  fm_bytes name;
  fm_bytes value;
} fmi_option;

typedef struct {
  fmi_column sub_keys;
  fmi_column values;
  uint8_t has_more;
} fmi_entries;

typedef struct {
  fmi_column values;
  uint8_t has_next;
  uint64_t next;
} fmi_items;

typedef struct {
  const uint64_t *ptr;
  size_t len;
} fmi_u64s;

#ifdef __wasm32__
_Static_assert(sizeof(fmi_description) == 40 && sizeof(fmi_declaration) == 32, "as in the canonical ABI");
_Static_assert(sizeof(fmi_plain_emission) == 56 && offsetof(fmi_plain_emission, keys) == 4, "as in the canonical ABI");
_Static_assert(sizeof(fmi_emission) == 68 && offsetof(fmi_emission, timestamps) == 56, "as in the canonical ABI");
_Static_assert(sizeof(fmi_value_writes) == 40 && sizeof(fmi_plain_value_writes) == 36, "as in the canonical ABI");
_Static_assert(sizeof(fmi_unread) == 4 && sizeof(fmi_list_writes) == 36, "as in the canonical ABI");
_Static_assert(sizeof(fmi_map_writes) == 60 && sizeof(fmi_rejection) == 12, "as in the canonical ABI");
_Static_assert(sizeof(fmi_result) == 44 && sizeof(fmi_entries) == 36 && sizeof(fmi_items) == 32, "as in the canonical ABI");
#endif

/* ---- The host: imports of the component, or `testing/` ---- */

void fmi_host_map_get(uint16_t state, fmi_u32s slots, const fmi_column *sub_keys, fmi_optional_column *values);
void fmi_host_map_scan(uint16_t state, uint32_t slot, fm_bytes start, const fm_bytes *end, bool is_descending, uint32_t max,
                       fmi_entries *entries);
void fmi_host_list_read(uint16_t state, uint32_t slot, uint64_t start, uint32_t max, fmi_items *items);
void fmi_host_list_len(uint16_t state, fmi_u32s slots, fmi_u64s *lens);
void fmi_host_log(fm_level level, fm_bytes message);
void fmi_host_add(fm_bytes counter, uint64_t delta);
void fmi_host_set(fm_bytes gauge, double value);
void fmi_host_observe(fm_bytes histogram, const double *values, size_t len);

/* ---- The exports ---- */

void fmi_describe(fmi_description *description);
/* As many as there are inputs, or none. */
size_t fmi_unread_columns(const fmi_unread **unread);
void fmi_open(const fmi_option *options, size_t len, fmi_result *result);
void fmi_process(uint16_t input, const fmi_batch *records, const fmi_optional_column *states, size_t states_len,
                 fmi_result *result);
/* The same for `operator`, whose hosts hand over all columns. */
void fmi_process_plain(uint16_t input, const fmi_batch *records, const fmi_optional_column *states, size_t states_len,
                       fmi_result *result);
void fmi_migrate(uint16_t state, uint32_t from_version, const fmi_column *values, fmi_result *result);
void fmi_to_json(uint16_t state, uint8_t part, const fmi_column *values, fmi_result *result);
void fmi_from_json(uint16_t state, uint8_t part, const fmi_column *texts, fmi_result *result);
void fmi_completed(uint64_t checkpoint);
void fmi_aborted(uint64_t checkpoint);
/* What the last call returned is no longer needed. */
void fmi_returned(void);

/* ---- Memory ---- */

/* Memory that is given back as a whole: that of the call, that of the current record, and that of a page. */
typedef struct fmi_arena {
  struct fmi_block *block;
  size_t used;
  /* The first block has at least this many bytes; 0 for many. */
  size_t first_cap;
} fmi_arena;
extern fmi_arena fmi_call_arena, fmi_record_arena;
/* Never NULL: without memory the instance ends, after a line to the log. */
void *fmi_allocate(fmi_arena *arena, size_t bytes, size_t align);
/* The same, zeroed. */
void *fmi_allocate_zeroed(fmi_arena *arena, size_t count, size_t bytes);
void fmi_reset(fmi_arena *arena);
fm_bytes fmi_copy(fmi_arena *arena, fm_bytes bytes);
/* Where answers of the host go. */
extern fmi_arena *fmi_answers;
/* Ends the instance with a line to the log. */
_Noreturn void fmi_die(const char *why);

/* A copy, mostly of a few bytes, for which `memcpy` costs more than they do: two words that may overlap. */
static inline void fmi_put(uint8_t *to, const uint8_t *from, size_t len) {
  if (len > 16) {
    memcpy(to, from, len);
  } else if (len >= 8) {
    uint64_t words[2];
    memcpy(&words[0], from, 8), memcpy(&words[1], from + len - 8, 8);
    memcpy(to, &words[0], 8), memcpy(to + len - 8, &words[1], 8);
  } else if (len >= 4) {
    uint32_t words[2];
    memcpy(&words[0], from, 4), memcpy(&words[1], from + len - 4, 4);
    memcpy(to, &words[0], 4), memcpy(to + len - 4, &words[1], 4);
  } else if (len != 0) {
    uint8_t bytes[3] = {from[0], from[len / 2], from[len - 1]};
    to[0] = bytes[0], to[len / 2] = bytes[1], to[len - 1] = bytes[2];
  }
}

/* A buffer that keeps its memory from call to call. */
typedef struct {
  void *ptr;
  size_t len;
  size_t cap;
} fmi_buffer;
/* Room for more bytes; the caller raises `len`. */
void fmi_grow(fmi_buffer *buffer, size_t more);
static inline void *fmi_more(fmi_buffer *buffer, size_t bytes) {
  if (buffer->cap - buffer->len < bytes) fmi_grow(buffer, bytes);
  void *at = (uint8_t *)buffer->ptr + buffer->len;
  buffer->len += bytes;
  return at;
}
void fmi_append(fmi_buffer *buffer, fm_bytes bytes);
static inline void fmi_append_u32(fmi_buffer *buffer, uint32_t item) { *(uint32_t *)fmi_more(buffer, 4) = item; }
/* Empties it, and lets go of memory that was needed once. */
void fmi_empty(fmi_buffer *buffer);
static inline fm_bytes fmi_bytes_of(const fmi_buffer *buffer) {
  fm_bytes bytes = {(const uint8_t *)buffer->ptr, buffer->len};
  return bytes;
}
static inline fmi_u32s fmi_u32s_of(const fmi_buffer *buffer) {
  fmi_u32s items = {(const uint32_t *)buffer->ptr, buffer->len / 4};
  return items;
}

/* What an iterator has read last, in memory that its next page takes over. So a walk costs a page and not the whole state. */
typedef struct fmi_page {
  struct fmi_page *older;
  struct fmi_page *next_idle;
  /* Another one after each turn, so that a copy of an iterator sees that the original has moved on. */
  uint64_t number;
  fmi_arena arena;
  union {
    fmi_items items;
    fmi_entries entries;
  } as;
  /* The bound from which a map is read on. */
  fmi_buffer bound;
} fmi_page;
/* The pages of this record. */
extern fmi_page *fmi_pages;
fmi_page *fmi_take_page(void);
/* Makes room for what is read next; views of what was there are no longer valid. */
void fmi_turn_page(fmi_page *page);
/* The iterator is at its end. */
void fmi_return_page(fmi_page *page);
/* The record is over, and with it all of its iterators. */
void fmi_forget_pages(void);

/* A column that grows. */
typedef struct {
  fmi_buffer ends;
  fmi_buffer bytes;
} fmi_columns;
void fmi_end_item(fmi_columns *column);
void fmi_push(fmi_columns *column, fm_bytes item);
void fmi_clear(fmi_columns *column);
fmi_column fmi_column_of(const fmi_columns *column);

static inline fm_bytes fmi_item(const fmi_column *column, size_t index) {
  size_t start = index == 0 ? 0 : column->ends.ptr[index - 1];
  fm_bytes item = {column->bytes.ptr + start, column->ends.ptr[index] - start};
  return item;
}
static inline fmi_column fmi_column_of_optional(const fmi_optional_column *column) {
  fmi_column items = {column->ends, column->bytes};
  return items;
}
static inline bool fmi_is_present(const fmi_optional_column *column, size_t index) {
  return (column->present.ptr[index / 8] >> (index % 8)) & 1;
}

/* Text for people: what is not UTF-8 in it becomes `?`. */
fm_bytes fmi_message(fmi_arena *arena, const char *format, va_list arguments);
/* The error of the call, or nothing. */
extern fm_bytes fmi_error;
/* Puts what was being done in front of the error, if there is one. */
void fmi_within(const char *format, ...) FM_FORMATTED(1, 2);

/* ---- Encodings ---- */

/* A decoded value: numbers and truth values as bits, all else as bytes. */
typedef struct {
  uint64_t number;
  fm_bytes bytes;
} fmi_datum;

static inline bool fmi_is_bytes(fm_type type) { return type == FM_TEXT || type == FM_RAW || type == FM_JSON; }
const char *fmi_type_name(fm_type type);
/* Appends the bytes of a value of a known type. */
void fmi_encode(fm_type type, fmi_datum value, fmi_buffer *bytes);
/* Whether these are the bytes of such a value. `bytes` of the value lie within them. */
bool fmi_decode(fm_type type, fm_bytes bytes, fmi_datum *value);
/* Whether it is a value of this type: text is UTF-8, JSON is JSON. */
bool fmi_is_valid(fm_type type, fmi_datum value);
/* How long it is in a sub-key; 0 for what has no fixed length. */
size_t fmi_fixed_bytes(fm_type type);
/* Whether these are the bytes of a sub-key of this state. */
bool fmi_is_sub_key(const fm_state *state, fm_bytes sub_key);
bool fmi_value_to_json(fm_type type, fm_bytes value, fmi_buffer *json);
bool fmi_value_from_json(fm_type type, fm_bytes json, fmi_buffer *value);
bool fmi_sub_key_to_json(const fm_state *state, fm_bytes sub_key, fmi_buffer *json);
bool fmi_sub_key_from_json(const fm_state *state, fm_bytes json, fmi_buffer *sub_key);
/* Whether it is one JSON text, and nothing else. */
bool fmi_is_json(fm_bytes text);

static inline fmi_datum fmi_of_u64(uint64_t value) {
  fmi_datum datum = {value, {NULL, 0}};
  return datum;
}
static inline fmi_datum fmi_of_f64(double value) {
  union {
    double number;
    uint64_t bits;
  } as = {value};
  return fmi_of_u64(as.bits);
}
static inline double fmi_f64_of(uint64_t bits) {
  union {
    uint64_t bits;
    double number;
  } as = {bits};
  return as.number;
}
static inline fmi_datum fmi_of_bytes(fm_bytes value) {
  fmi_datum datum = {0, value};
  return datum;
}

/* ---- States ---- */

/* The slot of the current record, and how many there are. */
extern uint32_t fmi_slot;
extern uint32_t fmi_slots;
extern fmi_column fmi_keys;
/* Whether a state may be used so now; fails if not. */
bool fmi_check(const fm_state *state, fm_type type);
/* The same for any type. */
bool fmi_check_open(const fm_state *state);
/* Whether a value may be written; fails if not. */
bool fmi_check_value(const fm_state *state, fmi_datum value);
void fmi_undecodable(const fm_state *state);

void fmi_value_load(fm_state *state, const fmi_optional_column *current);
void fmi_value_store(const fm_state *state, fmi_output *output);
void fmi_list_load(fm_state *state);
void fmi_list_store(const fm_state *state, fmi_output *output);
void fmi_map_load(fm_state *state);
void fmi_map_store(const fm_state *state, fmi_output *output);

#endif
