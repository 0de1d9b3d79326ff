/* The component: its exports, its imports and its memory, by the names of the canonical ABI.
 *
 * `floodmark build` makes a component of the module and checks every name and type here against the contract. Arguments and
 * answers are allocated in arenas that are reset when the host has read what a call returned. Natively this file is empty.
 */
#ifdef __wasm__

#include <string.h>

#include "contract.h"

#define EXPORT(name) __attribute__((export_name(name), used))
#define IMPORT(module, name) __attribute__((import_module("floodmark:engine/" module "@0.1.0"), import_name(name)))

/* ---- Memory ---- */

EXPORT("cabi_realloc")
void *fmi_cabi_realloc(void *before, size_t before_len, size_t align, size_t len) {
  void *memory = fmi_allocate(fmi_answers, len, align);
  if (before_len != 0) memcpy(memory, before, before_len < len ? before_len : len);
  return memory;
}

/* ---- Imports ---- */

IMPORT("state", "map-get")
void import_map_get(uint32_t state, const uint32_t *slots, size_t slots_len, const uint32_t *ends, size_t ends_len,
                    const uint8_t *bytes, size_t bytes_len, fmi_optional_column *answer);
IMPORT("state", "map-scan")
void import_map_scan(uint32_t state, uint32_t slot, const uint8_t *start, size_t start_len, uint32_t has_end,
                     const uint8_t *end, size_t end_len, uint32_t is_descending, uint32_t max, fmi_entries *answer);
IMPORT("state", "list-read")
void import_list_read(uint32_t state, uint32_t slot, uint64_t start, uint32_t max, fmi_items *answer);
IMPORT("state", "list-len")
void import_list_len(uint32_t state, const uint32_t *slots, size_t slots_len, fmi_u64s *answer);
IMPORT("log", "line")
void import_line(uint32_t level, const uint8_t *message, size_t message_len);
IMPORT("metrics", "add")
void import_add(const uint8_t *name, size_t name_len, uint64_t delta);
IMPORT("metrics", "set")
void import_set(const uint8_t *name, size_t name_len, double value);
IMPORT("metrics", "observe")
void import_observe(const uint8_t *name, size_t name_len, const double *values, size_t values_len);

void fmi_host_map_get(uint16_t state, fmi_u32s slots, const fmi_column *sub_keys, fmi_optional_column *values) {
  import_map_get(state, slots.ptr, slots.len, sub_keys->ends.ptr, sub_keys->ends.len, sub_keys->bytes.ptr,
                 sub_keys->bytes.len, values);
}

void fmi_host_map_scan(uint16_t state, uint32_t slot, fm_bytes start, const fm_bytes *end, bool is_descending, uint32_t max,
                       fmi_entries *entries) {
  fm_bytes until = end == NULL ? fm_view(NULL, 0) : *end;
  import_map_scan(state, slot, start.ptr, start.len, end != NULL, until.ptr, until.len, is_descending, max, entries);
}

void fmi_host_list_read(uint16_t state, uint32_t slot, uint64_t start, uint32_t max, fmi_items *items) {
  import_list_read(state, slot, start, max, items);
}

void fmi_host_list_len(uint16_t state, fmi_u32s slots, fmi_u64s *lens) {
  import_list_len(state, slots.ptr, slots.len, lens);
}

void fmi_host_log(fm_level level, fm_bytes message) { import_line(level, message.ptr, message.len); }
void fmi_host_add(fm_bytes counter, uint64_t delta) { import_add(counter.ptr, counter.len, delta); }
void fmi_host_set(fm_bytes gauge, double value) { import_set(gauge.ptr, gauge.len, value); }
void fmi_host_observe(fm_bytes histogram, const double *values, size_t len) {
  import_observe(histogram.ptr, histogram.len, values, len);
}

/* ---- Exports ---- */

#define OPERATOR "floodmark:engine/operator@0.1.0#"
#define COMPACT "floodmark:engine/operator-compact@0.1.0#"
#define COLUMNS "floodmark:engine/input-columns@0.1.0#"
#define STATE_VALUES "floodmark:engine/state-values@0.1.0#"
#define LISTENER "floodmark:engine/checkpoint-listener@0.1.0#"

static fmi_result returned;

EXPORT(OPERATOR "describe")
const fmi_description *export_describe(void) {
  static fmi_description description;
  fmi_describe(&description);
  return &description;
}

EXPORT(OPERATOR "open")
const fmi_result *export_open(const fmi_option *options, size_t len) {
  fmi_open(options, len, &returned);
  return &returned;
}

#define PROCESS_PARAMETERS                                                                                                   \
  uint32_t input, const uint32_t *key_ends, size_t key_ends_len, const uint8_t *keys, size_t keys_len, const uint32_t *slots, \
      size_t slots_len, const uint32_t *value_ends, size_t value_ends_len, const uint8_t *values, size_t values_len,        \
      const int64_t *timestamps, size_t timestamps_len, const fmi_optional_column *states, size_t states_len
#define GIVEN_BATCH                                                                                            \
  {                                                                                                            \
    {{key_ends, key_ends_len}, {keys, keys_len}}, {slots, slots_len},                                          \
        {{value_ends, value_ends_len}, {values, values_len}}, { timestamps, timestamps_len }                   \
  }

EXPORT(COMPACT "process")
const fmi_result *export_process_compact(PROCESS_PARAMETERS) {
  fmi_batch batch = GIVEN_BATCH;
  fmi_process((uint16_t)input, &batch, states, states_len, &returned);
  return &returned;
}

EXPORT(OPERATOR "process")
const fmi_result *export_process(PROCESS_PARAMETERS) {
  fmi_batch batch = GIVEN_BATCH;
  fmi_process_plain((uint16_t)input, &batch, states, states_len, &returned);
  return &returned;
}

EXPORT(COLUMNS "unread")
const void *export_unread(void) {
  static struct {
    const fmi_unread *ptr;
    size_t len;
  } unread;
  unread.len = fmi_unread_columns(&unread.ptr);
  return &unread;
}

EXPORT(STATE_VALUES "migrate")
const fmi_result *export_migrate(uint32_t state, uint32_t from_version, const uint32_t *ends, size_t ends_len,
                                 const uint8_t *bytes, size_t bytes_len) {
  fmi_column values = {{ends, ends_len}, {bytes, bytes_len}};
  fmi_migrate((uint16_t)state, from_version, &values, &returned);
  return &returned;
}

EXPORT(STATE_VALUES "to-json")
const fmi_result *export_to_json(uint32_t state, uint32_t part, const uint32_t *ends, size_t ends_len, const uint8_t *bytes,
                                 size_t bytes_len) {
  fmi_column values = {{ends, ends_len}, {bytes, bytes_len}};
  fmi_to_json((uint16_t)state, (uint8_t)part, &values, &returned);
  return &returned;
}

EXPORT(STATE_VALUES "from-json")
const fmi_result *export_from_json(uint32_t state, uint32_t part, const uint32_t *ends, size_t ends_len,
                                   const uint8_t *bytes, size_t bytes_len) {
  fmi_column texts = {{ends, ends_len}, {bytes, bytes_len}};
  fmi_from_json((uint16_t)state, (uint8_t)part, &texts, &returned);
  return &returned;
}

EXPORT(LISTENER "completed")
void export_completed(uint64_t checkpoint) { fmi_completed(checkpoint); }

EXPORT(LISTENER "aborted")
void export_aborted(uint64_t checkpoint) { fmi_aborted(checkpoint); }

/* The host has read what a call returned. */
EXPORT("cabi_post_" OPERATOR "describe")
void post_describe(const void *result) {
  (void)result;
  fmi_returned();
}
EXPORT("cabi_post_" OPERATOR "open")
void post_open(const void *result) {
  (void)result;
  fmi_returned();
}
EXPORT("cabi_post_" OPERATOR "process")
void post_process(const void *result) {
  (void)result;
  fmi_returned();
}
EXPORT("cabi_post_" COMPACT "process")
void post_process_compact(const void *result) {
  (void)result;
  fmi_returned();
}
EXPORT("cabi_post_" STATE_VALUES "migrate")
void post_migrate(const void *result) {
  (void)result;
  fmi_returned();
}
EXPORT("cabi_post_" STATE_VALUES "to-json")
void post_to_json(const void *result) {
  (void)result;
  fmi_returned();
}
EXPORT("cabi_post_" STATE_VALUES "from-json")
void post_from_json(const void *result) {
  (void)result;
  fmi_returned();
}

#endif
