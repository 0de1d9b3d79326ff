/* The life of an operator: described, opened with its options, and called with one batch after the other.
 *
 * After an error the operator may have seen half of a batch, so the next call opens it again: its memory is zeroed, and
 * `open` gets the same options again. Variables that it does not name as its memory are its own business.
 */
#include <stdlib.h>
#include <string.h>

#include "output.h"

#ifndef FM_PLUGIN_NAME
#define FM_PLUGIN_NAME "unnamed"
#endif
#ifndef FM_PLUGIN_VERSION
#define FM_PLUGIN_VERSION "0.0.0"
#endif

#define KNOWN_MAX 64

struct fm_config {
  fmi_option *options;
  size_t len;
  /* Names that were looked up; those of others are refused. */
  const char *known[KNOWN_MAX];
  size_t known_len;
};

uint32_t fmi_slot;
uint32_t fmi_slots;
fmi_column fmi_keys;

static const fm_operator *const operator_ = &floodmark_operator;
static fm_config options;
static bool is_open;

/* ---- Options ---- */

/* A copy that ends with a zero byte. */
static fm_bytes kept(fm_bytes bytes) {
  uint8_t *copy = malloc(bytes.len + 1);
  if (copy == NULL) fmi_die("there is no memory for the options; raise `limits.memory`");
  if (bytes.len != 0) memcpy(copy, bytes.ptr, bytes.len);
  copy[bytes.len] = 0;
  return fm_view(copy, bytes.len);
}

static void keep_options(const fmi_option *given, size_t len) {
  for (size_t index = 0; index < options.len; index++) {
    free((void *)options.options[index].name.ptr);
    free((void *)options.options[index].value.ptr);
  }
  free(options.options);
  options.options = len == 0 ? NULL : calloc(len, sizeof(fmi_option));
  if (len != 0 && options.options == NULL) fmi_die("there is no memory for the options; raise `limits.memory`");
  options.len = len;
  for (size_t index = 0; index < len; index++) {
    options.options[index].name = kept(given[index].name);
    options.options[index].value = kept(given[index].value);
  }
}

static const fmi_option *find(const fm_config *config, const char *name) {
  bool is_known = false;
  for (size_t index = 0; index < options.known_len; index++) is_known |= strcmp(options.known[index], name) == 0;
  if (!is_known && options.known_len == KNOWN_MAX) fm_fail("an operator has at most %d options", KNOWN_MAX);
  if (!is_known && options.known_len < KNOWN_MAX) options.known[options.known_len++] = name;
  for (size_t index = 0; index < config->len; index++) {
    if (fm_equal(config->options[index].name, fm_text(name))) return &config->options[index];
  }
  return NULL;
}

static void refuse_unknown(void) {
  for (size_t index = 0; index < options.len; index++) {
    fm_bytes name = options.options[index].name;
    bool is_known = false;
    fm_bytes known = fm_text("");
    for (size_t at = 0; at < options.known_len; at++) {
      is_known |= fm_equal(name, fm_text(options.known[at]));
      known = fm_format("%.*s%s`%s`", FM_SHOWN(known), at == 0 ? "" : ", ", options.known[at]);
    }
    if (is_known) continue;
    if (options.known_len == 0) {
      fm_fail("unknown option `%s`; this operator has none", fm_readable(name));
    } else {
      fm_fail("unknown option `%s`; this operator knows %.*s", fm_readable(name), FM_SHOWN(known));
    }
  }
}

bool fm_config_has(const fm_config *config, const char *name) { return find(config, name) != NULL; }

const char *fm_config_text(const fm_config *config, const char *name, const char *or_else) {
  const fmi_option *option = find(config, name);
  return option == NULL ? or_else : (const char *)option->value.ptr;
}

void fm_config_require(const fm_config *config, const char *name) {
  if (find(config, name) == NULL) fm_fail("option `%s` is missing; set it", name);
}

static void misread(const char *name, const fmi_option *option, const char *expected) {
  fm_fail("option `%s` is `%s`: %s", name, fm_readable(option->value), expected);
}

int64_t fm_config_i64(const fm_config *config, const char *name, int64_t or_else) {
  const fmi_option *option = find(config, name);
  if (option == NULL) return or_else;
  int64_t number = or_else;
  if (!fm_parse_i64(option->value, &number)) misread(name, option, "it is not a whole number, or too large for 64 bits");
  return number;
}

uint64_t fm_config_u64(const fm_config *config, const char *name, uint64_t or_else) {
  const fmi_option *option = find(config, name);
  if (option == NULL) return or_else;
  uint64_t number = or_else;
  if (!fm_parse_u64(option->value, &number)) misread(name, option, "it is not a whole number from 0 to 2^64 - 1");
  return number;
}

double fm_config_f64(const fm_config *config, const char *name, double or_else) {
  const fmi_option *option = find(config, name);
  if (option == NULL) return or_else;
  const char *text = (const char *)option->value.ptr;
  char *end;
  double number = strtod(text, &end);
  if (option->value.len == 0 || end != text + option->value.len) misread(name, option, "it is not a number");
  return number;
}

bool fm_config_bool(const fm_config *config, const char *name, bool or_else) {
  const fmi_option *option = find(config, name);
  if (option == NULL) return or_else;
  bool is_true = fm_equal(option->value, fm_text("true"));
  if (!is_true && !fm_equal(option->value, fm_text("false"))) misread(name, option, "it is neither `true` nor `false`");
  return is_true;
}

/* ---- States ---- */

static size_t states_len(void) {
  size_t len = 0;
  while (len < FM_STATES_MAX && operator_->states[len] != NULL) len++;
  return len;
}

static uint32_t version_of(const fm_state *state) { return state->version == 0 ? 1 : state->version; }

/* Fails where a declaration makes no sense that the host would not see. */
static void check_declaration(const fm_state *state) {
  bool is_value = state->type > FM_NOTHING && state->type <= FM_JSON;
  if (!is_value) fm_fail("state `%s` has a type that no value has; use one from `FM_U64` to `FM_JSON`", state->name);
  if (state->kind != FM_KIND_MAP) return;
  for (size_t part = 0; part < FM_SUB_KEY_PARTS_MAX; part++) {
    fm_type type = state->sub_key[part];
    if (type == FM_NOTHING && part != 0) break;
    bool is_last = part + 1 == FM_SUB_KEY_PARTS_MAX || state->sub_key[part + 1] == FM_NOTHING;
    bool is_open_end = type == FM_TEXT || type == FM_RAW;
    if (fmi_fixed_bytes(type) == 0 && !(is_last && is_open_end)) {
      fm_fail("state `%s` has a wrong sub-key; parts are integers or `FM_BOOL`, the last one `FM_TEXT` or `FM_RAW` too",
              state->name);
    }
  }
}

static void bind_states(void) {
  for (size_t index = 0; index < states_len(); index++) {
    fm_state *state = operator_->states[index];
    state->index = (uint16_t)index;
    state->call = NULL;
    state->is_open = false;
    check_declaration(state);
  }
}

bool fmi_check_open(const fm_state *state) {
  if (state->is_open) return true;
  const char *why = "it can be used only within `process`, and only if it is among the operator's states";
  fm_fail("state `%s` cannot be used here: %s", state->name, why);
  return false;
}

bool fmi_check(const fm_state *state, fm_type type) {
  if (!fmi_check_open(state)) return false;
  if (state->type == type || (type == FM_RAW && fmi_is_bytes(state->type))) return true;
  fm_fail("state `%s` keeps %s; it is used as if it kept %s", state->name, fmi_type_name(state->type),
          type == FM_RAW ? "bytes" : fmi_type_name(type));
  return false;
}

bool fmi_check_value(const fm_state *state, fmi_datum value) {
  if (fmi_is_valid(state->type, value)) return true;
  fm_fail("state `%s` keeps %s, and `%s` is not valid", state->name, fmi_type_name(state->type), fm_readable(value.bytes));
  return false;
}

void fmi_undecodable(const fm_state *state) {
  fm_bytes key = fmi_slot < fmi_slots ? fmi_item(&fmi_keys, fmi_slot) : fm_text("");
  fm_fail(
      "state `%s` of key `%s` does not decode as version %u of its type, %s; run the plugin that wrote it, raise `version` "
      "and say how to migrate, or keep this state as it was and add another one for the new type",
      state->name, fm_readable(key), (unsigned)version_of(state), fmi_type_name(state->type));
}

static void load_states(const fmi_batch *batch, const fmi_optional_column *current, size_t len) {
  if (len != states_len()) fmi_die("the host hands over another number of states than the plugin declares");
  fmi_keys = batch->keys;
  fmi_slots = (uint32_t)batch->keys.ends.len;
  for (size_t index = 0; index < len; index++) {
    fm_state *state = operator_->states[index];
    if (state->kind == FM_KIND_VALUE) fmi_value_load(state, &current[index]);
    if (state->kind == FM_KIND_LIST) fmi_list_load(state);
    if (state->kind == FM_KIND_MAP) fmi_map_load(state);
    state->is_open = true;
  }
}

static void store_states(fmi_output *output) {
  size_t len = states_len();
  output->values.ptr = fmi_allocate(&fmi_call_arena, len * sizeof(fmi_value_writes), 8);
  output->rest.lists.ptr = fmi_allocate(&fmi_call_arena, len * sizeof(fmi_list_writes), 8);
  output->rest.maps.ptr = fmi_allocate(&fmi_call_arena, len * sizeof(fmi_map_writes), 8);
  for (size_t index = 0; index < len; index++) {
    const fm_state *state = operator_->states[index];
    if (state->kind == FM_KIND_VALUE) fmi_value_store(state, output);
    if (state->kind == FM_KIND_LIST) fmi_list_store(state, output);
    if (state->kind == FM_KIND_MAP) fmi_map_store(state, output);
  }
}

/* ---- Exports ---- */

static size_t names_of(const char *const *names, const char *or_else, fm_bytes *named) {
  size_t len = 0;
  for (; len < FM_PORTS_MAX && names[len] != NULL; len++) named[len] = fm_text(names[len]);
  if (len == 0) named[len++] = fm_text(or_else);
  return len;
}

void fmi_describe(fmi_description *description) {
  static fmi_declaration declarations[FM_STATES_MAX];
  static fm_bytes inputs[FM_PORTS_MAX], outputs[FM_PORTS_MAX];
  size_t len = states_len();
  for (size_t index = 0; index < len; index++) {
    const fm_state *state = operator_->states[index];
    fmi_declaration declaration = {.name = fm_text(state->name),
                                   .kind = (uint8_t)state->kind,
                                   .version = version_of(state),
                                   .has_ttl = state->ttl_ms != 0,
                                   .ttl_ms = state->ttl_ms};
    declarations[index] = declaration;
  }
  description->name = fm_text(operator_->name != NULL ? operator_->name : FM_PLUGIN_NAME);
  description->version = fm_text(operator_->version != NULL ? operator_->version : FM_PLUGIN_VERSION);
  description->states.ptr = declarations;
  description->states.len = len;
  description->inputs.ptr = inputs;
  description->inputs.len = names_of(operator_->inputs, "in", inputs);
  description->outputs.ptr = outputs;
  description->outputs.len = names_of(operator_->outputs, "out", outputs);
}

/* Whether the call has succeeded; the result has the error if not. */
static bool finish(fmi_result *result) {
  fmi_hand_over_metrics(!fm_has_failed());
  result->is_error = fm_has_failed();
  if (result->is_error) result->as.error = fmi_error;
  return !result->is_error;
}

static void forget_record(void) {
  fmi_reset(&fmi_record_arena);
  if (fmi_pages != NULL) fmi_forget_pages();
}

static void begin(void) {
  fmi_error = fm_view(NULL, 0);
  forget_record();
}

static void open_anew(void) {
  is_open = false;
  options.known_len = 0;
  if (operator_->memory_bytes != 0) memset(operator_->memory, 0, operator_->memory_bytes);
  bind_states();
  if (operator_->process == NULL) fm_fail("the operator has no `process`; say which function it is");
  if (!fm_has_failed() && operator_->open != NULL) operator_->open(&options);
  if (!fm_has_failed()) refuse_unknown();
  is_open = !fm_has_failed();
}

void fmi_open(const fmi_option *given, size_t len, fmi_result *result) {
  begin();
  keep_options(given, len);
  open_anew();
  finish(result);
}

size_t fmi_unread_columns(const fmi_unread **unread) {
  static fmi_unread columns[FM_PORTS_MAX];
  static fm_bytes inputs[FM_PORTS_MAX];
  bool values = false, timestamps = false;
#ifdef FM_UNREAD_VALUES
  values = true;
#endif
#ifdef FM_UNREAD_TIMESTAMPS
  timestamps = true;
#endif
  size_t len = values || timestamps ? names_of(operator_->inputs, "in", inputs) : 0;
  for (size_t input = 0; input < len; input++) {
    fmi_unread both = {(uint16_t)input, values, timestamps};
    columns[input] = both;
  }
  *unread = columns;
  return len;
}

static void process_records(uint16_t input, const fmi_batch *batch) {
  void (*process)(const fm_record *, fm_output *) = operator_->process;
  for (size_t index = 0; index < batch->slots.len && !fm_has_failed(); index++) {
    forget_record();
    fmi_slot = batch->slots.ptr[index];
    fm_record record = {.key = fmi_item(&batch->keys, fmi_slot),
#ifndef FM_UNREAD_VALUES
                        .value = fmi_item(&batch->values, index),
#endif
#ifndef FM_UNREAD_TIMESTAMPS
                        .timestamp = batch->timestamps.ptr[index],
#endif
                        .input = input,
                        .index = (uint32_t)index,
                        .slot = fmi_slot};
    process(&record, fmi_output_of(&record));
  }
}

void fmi_process(uint16_t input, const fmi_batch *given, const fmi_optional_column *states, size_t len, fmi_result *result) {
  /* A host may hand over what is not read, and it must make no difference. */
  fmi_batch read = *given;
#ifdef FM_UNREAD_TIMESTAMPS
  read.timestamps.len = 0;
#endif
  const fmi_batch *batch = &read;
  begin();
  if (!is_open) open_anew();
  if (!fm_has_failed()) {
    load_states(batch, states, len);
    fmi_begin_output(batch, operator_);
    process_records(input, batch);
  }
  if (!fm_has_failed()) {
    memset(result, 0, sizeof *result);
    store_states(&result->as.output);
    fmi_end_output(&result->as.output);
  }
  for (size_t index = 0; index < states_len(); index++) operator_->states[index]->is_open = false;
  fmi_slots = 0;
  is_open = finish(result) && is_open;
}

void fmi_returned(void) {
  fmi_reset(&fmi_call_arena);
  fmi_error = fm_view(NULL, 0);
}

static void hear(void (*listener)(uint64_t), uint64_t checkpoint) {
  if (!is_open || listener == NULL) return;
  begin();
  listener(checkpoint);
  if (fm_has_failed()) fm_log(FM_WARN, "%.*s", FM_SHOWN(fmi_error));
  fmi_hand_over_metrics(!fm_has_failed());
  fmi_returned();
}

void fmi_completed(uint64_t checkpoint) { hear(operator_->checkpoint_completed, checkpoint); }

void fmi_aborted(uint64_t checkpoint) { hear(operator_->checkpoint_aborted, checkpoint); }
