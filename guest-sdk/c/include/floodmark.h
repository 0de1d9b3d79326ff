/* Write an operator for Floodmark in C, C++ or Zig: what it does with one record, and what it keeps for the key.
 *
 *     #include <floodmark.h>
 *
 *     static fm_value count = FM_VALUE("count", FM_U64);
 *
 *     static void process(const fm_record *word, fm_output *out) {
 *       (void)word;
 *       uint64_t n = fm_value_get_u64(&count, 0) + 1;
 *       fm_value_set_u64(&count, n);
 *       fm_emit(out, fm_decimal(n));
 *     }
 *
 *     const fm_operator floodmark_operator = {.states = {&count.state}, .process = process};
 *
 * A plugin is one such `floodmark_operator` and a `plugin.toml`. States are variables, so the compiler sees whether one is
 * a value, a list or a map. What an operator writes into a state of the wrong type, or reads from outside of `process`, is
 * an error of the call that names the state.
 *
 * Errors are sticky: after `fm_fail`, or after a function that has failed, the call fails whatever follows, and nothing of
 * it is applied. So operators need not check results; `return` after `fm_fail` is enough.
 *
 * This does not offer timers and windows, until the contract has them. It will never offer a clock and randomness.
 */
#ifndef FLOODMARK_H
#define FLOODMARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#include <string_view>
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define FM_FORMATTED(at, first) __attribute__((format(printf, at, first)))
#else
#define FM_FORMATTED(at, first)
#endif

/* ---- Bytes ---- */

/* Borrowed bytes, without a zero byte at the end. Those that the SDK returns are valid until `process`
 * returns. Only those of an iterator end earlier: with the next call of `fm_items_next` or `fm_entries_next` on it, so that a
 * state may be larger than the memory. `fm_copy` keeps them. */
typedef struct fm_bytes {
  const uint8_t *ptr;
  size_t len;
} fm_bytes;

/* Bytes of a C string, without its end. */
fm_bytes fm_text(const char *text);
/* These `len` bytes. */
fm_bytes fm_view(const void *bytes, size_t len);
/* Text formatted as by `printf`, valid for this record. */
fm_bytes fm_format(const char *format, ...) FM_FORMATTED(1, 2);
/* A number as decimal text, valid for this record. Faster than `fm_format`. */
fm_bytes fm_decimal(uint64_t number);
/* A copy, valid for this record: for bytes of an iterator that are needed later. */
fm_bytes fm_copy(fm_bytes bytes);
/* The two concatenated. */
fm_bytes fm_join(fm_bytes first, fm_bytes second);
/* Below, equal or above zero, as by `memcmp`; a prefix is below the longer one. */
int fm_compare(fm_bytes one, fm_bytes other);
bool fm_equal(fm_bytes one, fm_bytes other);
bool fm_is_utf8(fm_bytes bytes);
/* Reads a whole decimal number, with or without `-`, that takes up all of the text. */
bool fm_parse_i64(fm_bytes text, int64_t *number);
bool fm_parse_u64(fm_bytes text, uint64_t *number);
/* For messages: text as it is, anything else escaped, long values cut. Ends with a zero byte. */
const char *fm_readable(fm_bytes bytes);
/* Arguments for a `%.*s` of `printf` and similar functions. */
#define FM_SHOWN(bytes) (int)(bytes).len, (const char *)(bytes).ptr
/* Memory of at least this size for as long as the record is processed; never NULL. */
void *fm_scratch(size_t bytes);

/* ---- Types ---- */

/* What a state keeps. All SDKs write these the same way, so a plugin in one language can take over from one in another. */
typedef enum fm_type {
  FM_NOTHING = 0,
  FM_U64,  /* varint */
  FM_I64,  /* zigzag varint */
  FM_BOOL, /* one byte */
  FM_F64,  /* eight bytes */
  FM_TEXT, /* UTF-8 */
  FM_UNIT, /* no bytes: only whether it is set */
  FM_RAW,  /* bytes as they are */
  FM_JSON, /* compact JSON text */
  /* Sub-keys are integers, `FM_BOOL`, `FM_TEXT` and `FM_RAW`. */
  FM_U8,
  FM_U16,
  FM_U32,
  FM_I8,
  FM_I16,
  FM_I32,
} fm_type;

#define FM_SECONDS(n) ((uint64_t)(n) * 1000)
#define FM_MINUTES(n) FM_SECONDS((uint64_t)(n) * 60)
#define FM_HOURS(n) FM_MINUTES((uint64_t)(n) * 60)
#define FM_DAYS(n) FM_HOURS((uint64_t)(n) * 24)

/* ---- States ---- */

#define FM_STATES_MAX 64
#define FM_PORTS_MAX 64
#define FM_MIGRATIONS_MAX 8
#define FM_SUB_KEY_PARTS_MAX 4

typedef enum fm_kind { FM_KIND_VALUE = 0, FM_KIND_LIST = 1, FM_KIND_MAP = 2 } fm_kind;

/* Where a migration puts the new value: `fm_migrated_...`. */
typedef struct fm_migrated fm_migrated;

/* Migrates values of one older version. `old` is as that version wrote it: `fm_decode_...` reads it. */
typedef struct fm_migration {
  uint32_t from;
  void (*with)(fm_bytes old, fm_migrated *now);
} fm_migration;

/* The declaration of a state. Only the name and the type are required. */
typedef struct fm_state {
  fm_kind kind;
  /* Identifies the state across versions of the plugin: 1 to 64 characters of `a-z`, `0-9` and `-`. */
  const char *name;
  /* Of a map: one type or, of a tuple, several, of which all but the last have a fixed length. */
  fm_type sub_key[FM_SUB_KEY_PARTS_MAX];
  fm_type type;
  /* How long after its last write a value expires: `FM_HOURS(1)`; 0 means no expiry. */
  uint64_t ttl_ms;
  /* The version of the encoding, by default 1. Raise it when the type changes, and add a migration. */
  uint32_t version;
  fm_migration migrations[FM_MIGRATIONS_MAX];
  /* For the SDK only. */
  uint16_t index;
  bool is_open;
  void *call;
} fm_state;

/* One value per key. */
typedef struct fm_value {
  fm_state state;
} fm_value;
/* Many values per key, in the order in which they were appended. */
typedef struct fm_list {
  fm_state state;
} fm_list;
/* Many values per key, each under a sub-key, in the order of the sub-keys. */
typedef struct fm_map {
  fm_state state;
} fm_map;

/* `static fm_value seen = FM_VALUE("seen", FM_UNIT, .ttl_ms = FM_HOURS(1));` */
#define FM_VALUE(name_, ...) \
  { {.kind = FM_KIND_VALUE, .name = name_, .type = __VA_ARGS__} }
#define FM_LIST(name_, ...) \
  { {.kind = FM_KIND_LIST, .name = name_, .type = __VA_ARGS__} }
/* `static fm_map counts = FM_MAP("counts", FM_SUB_KEY(FM_TEXT), FM_U64);` */
#define FM_MAP(name_, sub_key_, ...) \
  { {.kind = FM_KIND_MAP, .name = name_, .sub_key = sub_key_, .type = __VA_ARGS__} }
#define FM_SUB_KEY(...) {__VA_ARGS__}

/* These functions use the key of the current record. `or_else` is returned where there is no value. `bytes` are for
 * `FM_TEXT`, `FM_RAW` and `FM_JSON`. */
bool fm_value_is_set(fm_value *value);
void fm_value_clear(fm_value *value);
uint64_t fm_value_get_u64(fm_value *value, uint64_t or_else);
int64_t fm_value_get_i64(fm_value *value, int64_t or_else);
double fm_value_get_f64(fm_value *value, double or_else);
bool fm_value_get_bool(fm_value *value, bool or_else);
fm_bytes fm_value_get_bytes(fm_value *value, fm_bytes or_else);
void fm_value_set_u64(fm_value *value, uint64_t to);
void fm_value_set_i64(fm_value *value, int64_t to);
void fm_value_set_f64(fm_value *value, double to);
void fm_value_set_bool(fm_value *value, bool to);
void fm_value_set_bytes(fm_value *value, fm_bytes to);
void fm_value_set_unit(fm_value *value);

void fm_list_append_u64(fm_list *list, uint64_t item);
void fm_list_append_i64(fm_list *list, int64_t item);
void fm_list_append_f64(fm_list *list, double item);
void fm_list_append_bool(fm_list *list, bool item);
void fm_list_append_bytes(fm_list *list, fm_bytes item);
/* Removes all items. */
void fm_list_clear(fm_list *list);
/* The host counts them, so the cost grows with the length of the list; `fm_list_is_empty` does not. */
uint64_t fm_list_len(fm_list *list);
bool fm_list_is_empty(fm_list *list);

/* Items of a list, the oldest first: `fm_items it = fm_list_items(&list); while (fm_items_next(&it)) ...`. What is appended
 * or cleared meanwhile may or may not be seen. `fm_items_bytes` is valid until the next `fm_items_next`: take a `fm_copy` of
 * what is needed longer. An iterator cannot be copied once it has begun; one that is left early holds memory for one page until
 * `process` returns. */
typedef struct fm_items {
  fm_list *list;
  void *page;
  uint64_t page_number;
  size_t at;
  bool is_begun;
  bool has_next;
  uint32_t own;
  uint64_t number;
  fm_bytes bytes;
} fm_items;
fm_items fm_list_items(fm_list *list);
bool fm_items_next(fm_items *items);
uint64_t fm_items_u64(const fm_items *items);
int64_t fm_items_i64(const fm_items *items);
double fm_items_f64(const fm_items *items);
bool fm_items_bool(const fm_items *items);
fm_bytes fm_items_bytes(const fm_items *items);

/* Sub-keys as bytes that sort like their values. Text and bytes are sub-keys as they are; `fm_join` makes tuples. */
fm_bytes fm_sub_key_unsigned(uint64_t value, size_t bytes);
fm_bytes fm_sub_key_signed(int64_t value, size_t bytes);
static inline fm_bytes fm_sub_key_u64(uint64_t value) { return fm_sub_key_unsigned(value, 8); }
static inline fm_bytes fm_sub_key_u32(uint32_t value) { return fm_sub_key_unsigned(value, 4); }
static inline fm_bytes fm_sub_key_u16(uint16_t value) { return fm_sub_key_unsigned(value, 2); }
static inline fm_bytes fm_sub_key_u8(uint8_t value) { return fm_sub_key_unsigned(value, 1); }
static inline fm_bytes fm_sub_key_i64(int64_t value) { return fm_sub_key_signed(value, 8); }
static inline fm_bytes fm_sub_key_i32(int32_t value) { return fm_sub_key_signed(value, 4); }
static inline fm_bytes fm_sub_key_i16(int16_t value) { return fm_sub_key_signed(value, 2); }
static inline fm_bytes fm_sub_key_i8(int8_t value) { return fm_sub_key_signed(value, 1); }
static inline fm_bytes fm_sub_key_bool(bool value) { return fm_sub_key_unsigned(value, 1); }
/* Removes an integer of this size from the front of a sub-key. */
uint64_t fm_sub_key_take_unsigned(fm_bytes *rest, size_t bytes);
int64_t fm_sub_key_take_signed(fm_bytes *rest, size_t bytes);

bool fm_map_has(fm_map *map, fm_bytes sub_key);
uint64_t fm_map_get_u64(fm_map *map, fm_bytes sub_key, uint64_t or_else);
int64_t fm_map_get_i64(fm_map *map, fm_bytes sub_key, int64_t or_else);
double fm_map_get_f64(fm_map *map, fm_bytes sub_key, double or_else);
bool fm_map_get_bool(fm_map *map, fm_bytes sub_key, bool or_else);
fm_bytes fm_map_get_bytes(fm_map *map, fm_bytes sub_key, fm_bytes or_else);
void fm_map_put_u64(fm_map *map, fm_bytes sub_key, uint64_t to);
void fm_map_put_i64(fm_map *map, fm_bytes sub_key, int64_t to);
void fm_map_put_f64(fm_map *map, fm_bytes sub_key, double to);
void fm_map_put_bool(fm_map *map, fm_bytes sub_key, bool to);
void fm_map_put_bytes(fm_map *map, fm_bytes sub_key, fm_bytes to);
void fm_map_put_unit(fm_map *map, fm_bytes sub_key);
void fm_map_remove(fm_map *map, fm_bytes sub_key);
/* Removes all entries. */
void fm_map_clear(fm_map *map);
/* Gets several entries from the host at once, so that `fm_map_get_...` finds them here. */
void fm_map_prefetch(fm_map *map, const fm_bytes *sub_keys, size_t len);

/* Entries of a map in the order of their sub-keys: `fm_entries it = fm_map_entries(&map); while (fm_entries_next(&it)) ...`.
 * What is put or removed meanwhile is seen if it comes later in the order. `fm_entries_sub_key` and `fm_entries_bytes` are valid
 * until the next `fm_entries_next`: take a `fm_copy` of what is needed longer. Otherwise like `fm_items`. */
typedef struct fm_entries {
  fm_map *map;
  fm_bytes start;
  fm_bytes end;
  bool has_end;
  bool is_descending;
  bool is_over;
  bool is_begun;
  uint32_t page_len;
  void *page;
  uint64_t page_number;
  size_t at;
  fm_bytes host_start;
  fm_bytes host_end;
  bool host_has_end;
  fm_bytes sub_key;
  uint64_t number;
  fm_bytes bytes;
} fm_entries;
fm_entries fm_map_entries(fm_map *map);
/* Entries with sub-keys from `start` (inclusive) to `end` (exclusive). */
fm_entries fm_map_range(fm_map *map, fm_bytes start, fm_bytes end);
/* From the highest sub-key down; call it before the first `fm_entries_next`. */
fm_entries fm_entries_descending(fm_entries entries);
bool fm_entries_next(fm_entries *entries);
fm_bytes fm_entries_sub_key(const fm_entries *entries);
uint64_t fm_entries_u64(const fm_entries *entries);
int64_t fm_entries_i64(const fm_entries *entries);
double fm_entries_f64(const fm_entries *entries);
bool fm_entries_bool(const fm_entries *entries);
fm_bytes fm_entries_bytes(const fm_entries *entries);

/* For migrations: read a value as a version of this type wrote it, and set the new one. */
uint64_t fm_decode_u64(fm_bytes old);
int64_t fm_decode_i64(fm_bytes old);
double fm_decode_f64(fm_bytes old);
bool fm_decode_bool(fm_bytes old);
fm_bytes fm_decode_text(fm_bytes old);
void fm_migrated_u64(fm_migrated *now, uint64_t value);
void fm_migrated_i64(fm_migrated *now, int64_t value);
void fm_migrated_f64(fm_migrated *now, double value);
void fm_migrated_bool(fm_migrated *now, bool value);
void fm_migrated_bytes(fm_migrated *now, fm_bytes value);
void fm_migrated_unit(fm_migrated *now);

/* ---- Records ---- */

/* The time of a record that has none. Others are milliseconds since 1970-01-01T00:00:00Z, in event time. */
#define FM_NO_TIMESTAMP INT64_MIN

/* Columns that `unread` in plugin.toml names are not passed, so code that reads them does not compile. Zig ignores attributes
 * of C. */
#define FM_NOT_READ(name, why) name##_is_unread_in_plugin_toml
#if defined(__has_attribute) && !defined(FM_FOR_ZIG)
#if __has_attribute(unavailable)
#undef FM_NOT_READ
#define FM_NOT_READ(name, why) name __attribute__((unavailable(why)))
#endif
#endif

/* A record that is being processed. `input` is the position of its port among the operator's `inputs`. */
typedef struct fm_record {
  fm_bytes key;
#ifdef FM_UNREAD_VALUES
  fm_bytes FM_NOT_READ(value, "plugin.toml says that values are not read; take `values` out of its `unread`");
#else
  fm_bytes value;
#endif
#ifdef FM_UNREAD_TIMESTAMPS
  int64_t FM_NOT_READ(timestamp, "plugin.toml says that times are not read; take `timestamps` out of its `unread`");
#else
  int64_t timestamp;
#endif
  uint16_t input;
  uint32_t index;
  uint32_t slot;
} fm_record;

/* Where an operator emits records. They leave when the whole batch has been processed. */
typedef struct fm_output fm_output;

/* Emits a record with the key and the time of the one that is being processed, to the first output port. */
void fm_emit(fm_output *out, fm_bytes value);
/* To another port: its position among the operator's `outputs`. */
void fm_emit_to(fm_output *out, uint16_t port, fm_bytes value);
/* With another key. */
void fm_emit_key(fm_output *out, uint16_t port, fm_bytes key, fm_bytes value);
/* With another event time. */
void fm_emit_at(fm_output *out, uint16_t port, int64_t timestamp, fm_bytes value);
/* With another key and another event time. */
void fm_emit_key_at(fm_output *out, uint16_t port, fm_bytes key, int64_t timestamp, fm_bytes value);
/* Rejects the record that is being processed: the pipeline's `on-error` decides what follows, and the other records of the
 * batch are not affected. What this record has emitted or written before stays, so reject first. Of several reasons the
 * first counts. */
void fm_reject(fm_output *out, const char *why, ...) FM_FORMATTED(2, 3);

/* ---- Errors, log, metrics ---- */

/* Fails the call. The message is lower case, without a full stop, and says what is wrong and what to do. Of several the first
 * counts. */
void fm_fail(const char *why, ...) FM_FORMATTED(1, 2);
/* Whether the call has failed already. */
bool fm_has_failed(void);

typedef enum fm_level { FM_TRACE = 0, FM_DEBUG = 1, FM_INFO = 2, FM_WARN = 3, FM_ERROR = 4 } fm_level;
/* Writes a line to the job's log. Text printed to `stdout` and `stderr` goes there too: as info, and as a warning. */
void fm_log(fm_level level, const char *format, ...) FM_FORMATTED(2, 3);

/* Numbers that appear among the job's metrics; those of a call that fails are dropped. Names are as those of states, and may
 * contain `_`. The host gets them once, at the end of the call. */
void fm_count(const char *counter, uint64_t delta);
void fm_gauge(const char *gauge, double value);
void fm_observe(const char *histogram, double value);

/* ---- Configuration ---- */

/* The options of one operator, by name. Each look-up makes an option known; unknown ones are refused after `open`. */
typedef struct fm_config fm_config;

bool fm_config_has(const fm_config *config, const char *name);
/* The option, or `or_else` if it is not set. It is valid as long as the operator is open. */
const char *fm_config_text(const fm_config *config, const char *name, const char *or_else);
int64_t fm_config_i64(const fm_config *config, const char *name, int64_t or_else);
uint64_t fm_config_u64(const fm_config *config, const char *name, uint64_t or_else);
double fm_config_f64(const fm_config *config, const char *name, double or_else);
/* `true` or `false`. */
bool fm_config_bool(const fm_config *config, const char *name, bool or_else);
/* Fails if the option is not set. */
void fm_config_require(const fm_config *config, const char *name);

/* ---- The operator ---- */

/* Everything except `process` is optional. The host may drop the operator between any two batches, and after an error it is
 * opened again: what must last belongs in a state. */
typedef struct fm_operator {
  /* Name and version of the plugin; by default those of its `plugin.toml`. */
  const char *name;
  const char *version;
  fm_state *states[FM_STATES_MAX];
  /* Names of ports, by default `in` and `out`. */
  const char *inputs[FM_PORTS_MAX];
  const char *outputs[FM_PORTS_MAX];
  /* Variables of the operator that are not state, such as its configuration: all zero before each `open`. */
  void *memory;
  size_t memory_bytes;
  void (*open)(const fm_config *config);
  void (*process)(const fm_record *record, fm_output *out);
  /* The checkpoint is durable, and so are all with a smaller number. Best effort; no state can be used here. */
  void (*checkpoint_completed)(uint64_t checkpoint);
  /* The checkpoint was aborted; a later one includes what it would have included. */
  void (*checkpoint_aborted)(uint64_t checkpoint);
} fm_operator;

/* `FM_MEMORY(variable)` among the fields of an operator. */
#define FM_MEMORY(variable) .memory = &(variable), .memory_bytes = sizeof(variable)

/* The operator of the plugin. */
extern const fm_operator floodmark_operator;

#ifdef __cplusplus
} /* extern "C" */

inline fm_bytes fm_view(std::string_view text) { return fm_view(text.data(), text.size()); }
inline std::string_view fm_string_view(fm_bytes bytes) {
  return {reinterpret_cast<const char *>(bytes.ptr), bytes.len};
}
#endif

#endif
