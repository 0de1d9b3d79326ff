/* The host of a test: batches and state in, emissions and writes out.
 *
 * Everything that comes back is checked as a host checks it: a breach of the contract is a mistake in the SDK.
 */
#include "floodmark_testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kept.h"

typedef struct {
  fm_bytes key;
  fm_bytes value;
  int64_t timestamp;
} sent_record;

/* What came out and was not looked at yet. */
typedef struct emitted {
  const char *output;
  fm_bytes key, value;
  int64_t timestamp;
  struct emitted *next;
} emitted;

typedef struct told {
  int level;
  fm_bytes about, text;
  struct told *next;
} told;

typedef struct metric {
  fm_bytes name;
  double value;
  struct metric *next;
} metric;

static fmi_option *options;
static size_t options_len;
static bool is_live;
static const char *next_input;
static fmi_buffer sent;
static emitted *emissions;
static told *rejections, *lines;
static metric *metrics;
static int64_t last_timestamp;

/* ---- Failures ---- */

static _Noreturn void wrong(const char *file, int line, const char *what, const char *expected, const char *actual) {
  fflush(stdout);
  fprintf(stderr, "%s:%d: %s\n  expected: %s\n  actual:   %s\n", file, line, what, expected, actual);
  exit(1);
}

static void must(bool is_so, const char *what) {
  if (!is_so) wrong(__FILE__, __LINE__, "what the operator returned breaks the contract", what, "otherwise");
}

static const char *shown(fm_bytes bytes) { return fm_readable(bytes); }

/* ---- The host ---- */

static void tell(told **list, int level, fm_bytes about, fm_bytes text) {
  told *added = kept_memory(sizeof *added);
  added->level = level;
  added->about = kept_copy(about);
  added->text = kept_copy(text);
  while (*list != NULL) list = &(*list)->next;
  *list = added;
}

void fmi_host_log(fm_level level, fm_bytes message) { tell(&lines, level, fm_text(""), message); }

static metric *metric_of(fm_bytes name) {
  for (metric *known = metrics; known != NULL; known = known->next) {
    if (fm_equal(known->name, name)) return known;
  }
  metric *added = kept_memory(sizeof *added);
  added->name = kept_copy(name);
  added->next = metrics;
  return metrics = added;
}

void fmi_host_add(fm_bytes counter, uint64_t delta) { metric_of(counter)->value += (double)delta; }
void fmi_host_set(fm_bytes gauge, double value) { metric_of(gauge)->value = value; }
void fmi_host_observe(fm_bytes histogram, const double *values, size_t len) {
  for (size_t index = 0; index < len; index++) metric_of(histogram)->value += values[index];
}

/* Natively a call keeps its memory until the next one, as the host would copy it. */
static const char *open_if_needed(void) {
  if (is_live) return NULL;
  fmi_result result;
  fmi_open(options, options_len, &result);
  if (result.is_error) return shown(result.as.error);
  is_live = true;
  return NULL;
}

static size_t name_at(const char *const *names, const char *or_else, const char *name) {
  if (name == NULL || (names[0] == NULL && strcmp(or_else, name) == 0)) return 0;
  for (size_t index = 0; index < FM_PORTS_MAX && names[index] != NULL; index++) {
    if (strcmp(names[index], name) == 0) return index;
  }
  wrong(__FILE__, __LINE__, "there is no such port or state", name, "none");
}

static size_t state_named(const char *name) {
  for (size_t index = 0; index < FM_STATES_MAX && floodmark_operator.states[index] != NULL; index++) {
    if (strcmp(floodmark_operator.states[index]->name, name) == 0) return index;
  }
  wrong(__FILE__, __LINE__, "there is no such state", name, "none");
}

static size_t states_len(void) {
  size_t len = 0;
  while (len < FM_STATES_MAX && floodmark_operator.states[len] != NULL) len++;
  return len;
}

typedef struct {
  fmi_columns keys, values;
  fmi_buffer slots, timestamps;
  fmi_batch batch;
} built_batch;

/* The records with each key once, in order of appearance. */
static void build_batch(built_batch *built) {
  memset(built, 0, sizeof *built);
  const sent_record *records = sent.ptr;
  for (size_t index = 0; index < sent.len / sizeof *records; index++) {
    fmi_column keys = fmi_column_of(&built->keys);
    uint32_t slot = 0;
    while (slot < keys.ends.len && !fm_equal(fmi_item(&keys, slot), records[index].key)) slot++;
    if (slot == keys.ends.len) fmi_push(&built->keys, records[index].key);
    fmi_append_u32(&built->slots, slot);
    fmi_push(&built->values, records[index].value);
    fmi_append(&built->timestamps, fm_view(&records[index].timestamp, sizeof(int64_t)));
  }
  fmi_i64s timestamps = {built->timestamps.ptr, built->timestamps.len / sizeof(int64_t)};
  fmi_batch batch = {fmi_column_of(&built->keys), fmi_u32s_of(&built->slots), fmi_column_of(&built->values), timestamps};
  built->batch = batch;
}

static fmi_optional_column *current_values(const fmi_column *keys) {
  fmi_optional_column *all = kept_memory(states_len() * sizeof *all);
  for (uint16_t state = 0; state < states_len(); state++) {
    if (floodmark_operator.states[state]->kind != FM_KIND_VALUE) continue;
    fmi_columns *values = kept_memory(sizeof *values);
    uint8_t *present = kept_memory(keys->ends.len / 8 + 1);
    for (size_t slot = 0; slot < keys->ends.len; slot++) {
      size_t len;
      kept_row **rows = kept_rows(state, fmi_item(keys, slot), &len);
      if (len != 0) present[slot / 8] |= (uint8_t)(1 << (slot % 8));
      fmi_push(values, len != 0 ? rows[0]->value : fm_text(""));
    }
    fmi_column column = fmi_column_of(values);
    fmi_optional_column current = {{present, (keys->ends.len + 7) / 8}, column.ends, column.bytes};
    all[state] = current;
  }
  return all;
}

static void check_column(const fmi_column *column, size_t len) {
  must(column->ends.len == len, "as many items as slots");
  uint32_t end = 0;
  for (size_t index = 0; index < len; index++) {
    must(column->ends.ptr[index] >= end, "the ends of a column never decrease");
    end = column->ends.ptr[index];
  }
  must(end == column->bytes.len, "the last end is the length of the bytes");
}

static void check_slots(fmi_u32s slots, size_t keys_len, bool is_distinct) {
  for (size_t index = 0; index < slots.len; index++) {
    must(slots.ptr[index] < keys_len, "slots are of keys of the call");
    for (size_t other = 0; is_distinct && other < index; other++) {
      must(slots.ptr[other] != slots.ptr[index], "no slot appears twice");
    }
  }
}

static void take_emission(const fmi_plain_emission *emission, const fmi_column *call_keys) {
  const fmi_column *keys = emission->keys.is_fresh ? &emission->keys.fresh : call_keys;
  check_column(keys, keys->ends.len);
  check_column(&emission->values, emission->slots.len);
  check_slots(emission->slots, keys->ends.len, false);
  must(emission->timestamps.len == emission->slots.len, "as many timestamps as slots");
  const char *name = floodmark_operator.outputs[emission->output];
  emitted **end = &emissions;
  while (*end != NULL) end = &(*end)->next;
  for (size_t index = 0; index < emission->slots.len; index++) {
    emitted *added = kept_memory(sizeof *added);
    added->output = name == NULL ? "out" : name;
    added->key = kept_copy(fmi_item(keys, emission->slots.ptr[index]));
    added->value = kept_copy(fmi_item(&emission->values, index));
    added->timestamp = emission->timestamps.ptr[index];
    *end = added;
    end = &added->next;
  }
}

static void apply_states(const fmi_plain_output *output, const fmi_column *keys) {
  for (size_t at = 0; at < output->values.len; at++) {
    const fmi_plain_value_writes *writes = &output->values.ptr[at];
    fmi_column values = fmi_column_of_optional(&writes->values);
    check_column(&values, writes->slots.len);
    check_slots(writes->slots, keys->ends.len, true);
    for (size_t index = 0; index < writes->slots.len; index++) {
      fm_bytes key = fmi_item(keys, writes->slots.ptr[index]);
      bool is_there = fmi_is_present(&writes->values, index);
      if (is_there) kept_put(writes->state, key, fm_text(""), fmi_item(&values, index));
      if (!is_there) kept_clear(writes->state, key);
    }
  }
  for (size_t at = 0; at < output->rest.lists.len; at++) {
    const fmi_list_writes *writes = &output->rest.lists.ptr[at];
    check_column(&writes->values, writes->slots.len);
    check_slots(writes->slots, keys->ends.len, false);
    check_slots(writes->cleared, keys->ends.len, true);
    for (size_t index = 0; index < writes->cleared.len; index++) {
      kept_clear(writes->state, fmi_item(keys, writes->cleared.ptr[index]));
    }
    for (size_t index = 0; index < writes->slots.len; index++) {
      kept_append(writes->state, fmi_item(keys, writes->slots.ptr[index]), fmi_item(&writes->values, index));
    }
  }
  for (size_t at = 0; at < output->rest.maps.len; at++) {
    const fmi_map_writes *writes = &output->rest.maps.ptr[at];
    fmi_column values = fmi_column_of_optional(&writes->values);
    check_column(&values, writes->slots.len);
    check_column(&writes->sub_keys, writes->slots.len);
    check_slots(writes->slots, keys->ends.len, false);
    check_slots(writes->cleared, keys->ends.len, true);
    for (size_t index = 0; index < writes->cleared.len; index++) {
      kept_clear(writes->state, fmi_item(keys, writes->cleared.ptr[index]));
    }
    for (size_t index = 0; index < writes->slots.len; index++) {
      fm_bytes key = fmi_item(keys, writes->slots.ptr[index]), sub_key = fmi_item(&writes->sub_keys, index);
      for (size_t other = 0; other < index; other++) {
        bool is_same = writes->slots.ptr[other] == writes->slots.ptr[index];
        must(!is_same || !fm_equal(fmi_item(&writes->sub_keys, other), sub_key), "no sub-key of a slot twice");
      }
      bool is_there = fmi_is_present(&writes->values, index);
      if (is_there) kept_put(writes->state, key, sub_key, fmi_item(&values, index));
      if (!is_there) kept_remove(writes->state, key, sub_key);
    }
  }
}

/* NULL, or why the call failed. */
static const char *run(void) {
  const char *refused = open_if_needed();
  built_batch built;
  build_batch(&built);
  size_t input = name_at(floodmark_operator.inputs, "in", next_input);
  next_input = NULL;
  fmi_empty(&sent);
  if (refused != NULL) return refused;
  fmi_result result;
  kept_keys = &built.batch.keys;
  fmi_process_plain((uint16_t)input, &built.batch, current_values(kept_keys), states_len(), &result);
  kept_keys = NULL;
  const char *failure = NULL;
  if (result.is_error) {
    failure = (const char *)kept_copy(result.as.error).ptr;
  } else {
    const fmi_plain_output *output = &result.as.plain;
    for (size_t index = 0; index < output->emissions.len; index++) {
      take_emission(&output->emissions.ptr[index], &built.batch.keys);
    }
    apply_states(output, &built.batch.keys);
    for (size_t index = 0; index < output->rest.rejections.len; index++) {
      const fmi_rejection *rejection = &output->rest.rejections.ptr[index];
      must(rejection->record < built.batch.slots.len, "a record of the call is rejected");
      tell(&rejections, 0, fmi_item(&built.batch.values, rejection->record), rejection->reason);
    }
  }
  fmi_returned();
  return failure;
}

/* ---- What tests call ---- */

void fm_test_begin(const char *const *given) {
  options_len = 0;
  while (given != NULL && given[2 * options_len] != NULL) options_len++;
  options = kept_memory(options_len * sizeof *options);
  for (size_t index = 0; index < options_len; index++) {
    options[index].name = fm_text(given[2 * index]);
    options[index].value = fm_text(given[2 * index + 1]);
  }
  is_live = false;
  next_input = NULL;
  fmi_empty(&sent);
  emissions = NULL;
  rejections = lines = NULL;
  metrics = NULL;
  kept_forget_all();
}

void fm_test_send(const char *key, const char *value) {
  fm_test_send_as(next_input, fm_text(key), fm_text(value), FM_NO_TIMESTAMP);
}

void fm_test_send_as(const char *input, fm_bytes key, fm_bytes value, int64_t timestamp) {
  sent_record record = {kept_copy(key), kept_copy(value), timestamp};
  fmi_append(&sent, fm_view(&record, sizeof record));
  next_input = input;
}

void fm_test_run_at(const char *file, int line) {
  const char *failure = run();
  if (failure != NULL) wrong(file, line, "the call", "succeeds", failure);
}

void fm_test_run_fails_at(const char *file, int line, const char *part) {
  const char *failure = run();
  if (failure == NULL || strstr(failure, part) == NULL) {
    wrong(file, line, "how the call fails", part, failure == NULL ? "it succeeds" : failure);
  }
}

void fm_test_emits_at(const char *file, int line, const char *output, const char *key, const char *value) {
  if (output == NULL) output = floodmark_operator.outputs[0] == NULL ? "out" : floodmark_operator.outputs[0];
  emitted **at = &emissions;
  while (*at != NULL && strcmp((*at)->output, output) != 0) at = &(*at)->next;
  if (*at == NULL) wrong(file, line, "the next record that was emitted", value, "there is none");
  emitted *found = *at;
  *at = found->next;
  last_timestamp = found->timestamp;
  if (!fm_equal(found->key, fm_text(key))) wrong(file, line, "the key of the next emitted record", key, shown(found->key));
  if (!fm_equal(found->value, fm_text(value))) {
    wrong(file, line, "the value of the next emitted record", value, shown(found->value));
  }
}

void fm_test_emitted_at_at(const char *file, int line, int64_t timestamp) {
  if (last_timestamp == timestamp) return;
  char expected[32], actual[32];
  snprintf(expected, sizeof expected, "%lld", (long long)timestamp);
  snprintf(actual, sizeof actual, "%lld", (long long)last_timestamp);
  wrong(file, line, "the time of the record", expected, actual);
}

void fm_test_emits_nothing_at(const char *file, int line) {
  if (emissions != NULL) wrong(file, line, "nothing more is emitted", "nothing", shown(emissions->value));
}

void fm_test_rejects_at(const char *file, int line, const char *value, const char *part) {
  if (rejections == NULL) wrong(file, line, "a record is rejected", value, "none is");
  told *found = rejections;
  rejections = found->next;
  if (!fm_equal(found->about, fm_text(value))) wrong(file, line, "the rejected record", value, shown(found->about));
  if (strstr((const char *)found->text.ptr, part) == NULL) wrong(file, line, "the reason", part, shown(found->text));
}

void fm_test_logs_at(const char *file, int line, fm_level level, const char *text) {
  if (lines == NULL) wrong(file, line, "a line of the log", text, "there is none");
  told *found = lines;
  lines = found->next;
  if (!fm_equal(found->text, fm_text(text))) wrong(file, line, "the line of the log", text, shown(found->text));
  if (found->level != (int)level) wrong(file, line, "its level", text, "another one");
}

static void append_json(const fm_state *state, const kept_row *row, fmi_buffer *json) {
  bool is_value = fmi_value_to_json(state->type, row->value, json);
  must(is_value, "what is kept is a value of the state");
}

void fm_test_keeps_at(const char *file, int line, const char *name, const char *key, const char *json) {
  size_t index = state_named(name);
  const fm_state *state = floodmark_operator.states[index];
  size_t len;
  kept_row **rows = kept_rows((uint16_t)index, fm_text(key), &len);
  fmi_buffer actual = {NULL, 0, 0};
  if (state->kind != FM_KIND_VALUE && len != 0) fmi_append(&actual, fm_text(state->kind == FM_KIND_MAP ? "{" : "["));
  for (size_t at = 0; at < len; at++) {
    if (at != 0) fmi_append(&actual, fm_text(","));
    if (state->kind == FM_KIND_MAP) {
      must(fmi_sub_key_to_json(state, rows[at]->sub_key, &actual), "what is kept is a sub-key of the state");
      fmi_append(&actual, fm_text(":"));
    }
    append_json(state, rows[at], &actual);
  }
  if (state->kind != FM_KIND_VALUE && len != 0) fmi_append(&actual, fm_text(state->kind == FM_KIND_MAP ? "}" : "]"));
  if (len == 0) fmi_append(&actual, fm_text("nothing"));
  if (!fm_equal(fmi_bytes_of(&actual), fm_text(json))) wrong(file, line, name, json, shown(fmi_bytes_of(&actual)));
}

void fm_test_keep_old_at(const char *file, int line, const char *state, const char *key, uint32_t version, fm_bytes bytes) {
  uint16_t index = (uint16_t)state_named(state);
  uint32_t end = (uint32_t)bytes.len;
  fmi_column values = {{&end, 1}, bytes};
  fmi_result result;
  fmi_migrate(index, version, &values, &result);
  if (result.is_error) wrong(file, line, "the state is migrated", state, shown(result.as.error));
  kept_put(index, fm_text(key), fm_text(""), fmi_item(&result.as.column, 0));
  fmi_returned();
}

void fm_test_is_at(const char *file, int line, const char *condition, bool is_so) {
  if (!is_so) wrong(file, line, condition, "so", "not so");
}

void fm_test_kill(void) { is_live = false; }
void fm_test_pass(uint64_t ms) { kept_now_ms += ms; }
void fm_test_complete_checkpoint(uint64_t checkpoint) { fmi_completed(checkpoint); }
void fm_test_abort_checkpoint(uint64_t checkpoint) { fmi_aborted(checkpoint); }
double fm_test_metric(const char *name) { return metric_of(fm_text(name))->value; }

int fm_test_end(void) {
  printf("all is well\n");
  return 0;
}
