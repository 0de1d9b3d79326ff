/* Catches bytes and JSON that differ from those of the SDKs of other languages: checks all of `guest-sdk/encodings.json`.
 *
 * Each vector stands on a line of its own there, so a line is all that is read; `value` is not, since `json` says the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/contract.h"
#include "floodmark_testing.h"

static void process(const fm_record *record, fm_output *out) { (void)record, (void)out; }

const fm_operator floodmark_operator = {.process = process};

static fm_type type_named(fm_bytes name) {
  static const char *const names[] = {"u64", "i64", "bool", "f64", "text", "unit", "raw",
                                      "json", "u8", "u16", "u32", "i8", "i16", "i32"};
  if (fm_equal(name, fm_text("bytes"))) return FM_RAW;
  for (int index = 0; index < 14; index++) {
    if (fm_equal(name, fm_text(names[index]))) return (fm_type)(index + 1);
  }
  fm_test_is(!"a known type");
  return FM_NOTHING;
}

/* The JSON behind a field of the line, or none; from there to where `,"` or `}` ends it. */
static bool field(const char *line, const char *name, fm_bytes *json) {
  char quoted[32];
  snprintf(quoted, sizeof quoted, "\"%s\":", name);
  const char *at = strstr(line, quoted);
  if (at == NULL) return false;
  at += strlen(quoted);
  const char *end = at + 1;
  if (*at == '[') {
    end = strchr(at, ']') + 1;
  } else {
    while (*end != '"') end += *end == '\\' ? 2 : 1;
    end++;
  }
  *json = fm_view(at, (size_t)(end - at));
  return true;
}

static bool text_field(const char *line, const char *name, fmi_buffer *text) {
  fm_bytes json;
  text->len = 0;
  if (!field(line, name, &json)) return false;
  fmi_buffer encoded = {NULL, 0, 0};
  fm_test_is(fmi_value_from_json(FM_TEXT, json, &encoded));
  fmi_datum decoded;
  fm_test_is(fmi_decode(FM_TEXT, fmi_bytes_of(&encoded), &decoded));
  fmi_append(text, decoded.bytes);
  return true;
}

static bool hex_field(const char *line, fmi_buffer *bytes) {
  fmi_buffer hex = {NULL, 0, 0};
  if (!text_field(line, "hex", &hex)) return false;
  fm_bytes json = fm_format("{\"hex\":\"%.*s\"}", FM_SHOWN(fmi_bytes_of(&hex)));
  bytes->len = 0;
  fm_test_is(fmi_value_from_json(FM_RAW, json, bytes));
  return true;
}

static void explain(bool is_right, const char *line) {
  if (!is_right) fprintf(stderr, "%s", line);
  fm_test_is(is_right);
}

/* A value comes back from its bytes and from its JSON. */
static void check_value(const char *line, fm_type type, fm_bytes bytes, fm_bytes json) {
  fmi_buffer again = {NULL, 0, 0}, shown = {NULL, 0, 0};
  fmi_datum value = {0, {NULL, 0}};
  explain(fmi_decode(type, bytes, &value) && fmi_is_valid(type, value), line);
  fmi_encode(type, value, &again);
  explain(fm_equal(fmi_bytes_of(&again), bytes), line);
  again.len = 0;
  explain(fmi_value_from_json(type, json, &again) && fm_equal(fmi_bytes_of(&again), bytes), line);
  explain(fmi_value_to_json(type, bytes, &shown), line);
  bool is_same = type == FM_F64 ? strtod(shown.ptr, NULL) == strtod((const char *)json.ptr, NULL)
                                : fm_equal(fmi_bytes_of(&shown), json);
  explain(is_same, line);
}

static void check_sub_key(const char *line, const fm_state *state, fm_bytes bytes, fm_bytes json) {
  fmi_buffer again = {NULL, 0, 0}, shown = {NULL, 0, 0};
  explain(fmi_is_sub_key(state, bytes), line);
  explain(fmi_sub_key_to_json(state, bytes, &shown) && fm_equal(fmi_bytes_of(&shown), json), line);
  explain(fmi_sub_key_from_json(state, json, &again) && fm_equal(fmi_bytes_of(&again), bytes), line);
}

static void check_refused(const char *line, fm_type type, const fm_state *state, const fm_bytes *bytes, const fm_bytes *json) {
  fmi_buffer out = {NULL, 0, 0};
  fmi_datum value;
  if (bytes != NULL) explain(state == NULL ? !fmi_decode(type, *bytes, &value) : !fmi_is_sub_key(state, *bytes), line);
  if (json == NULL) return;
  explain(state == NULL ? !fmi_value_from_json(type, *json, &out) : !fmi_sub_key_from_json(state, *json, &out), line);
}

/* The state of a map with sub-keys of this type, or of a tuple of these. */
static fm_state map_of(fm_bytes type) {
  fm_state state = {.kind = FM_KIND_MAP, .name = "map", .type = FM_U64};
  size_t parts = 0, start = 0;
  for (size_t index = 0; index < type.len; index++) {
    if (type.ptr[index] != '"') continue;
    if (start != 0) {
      state.sub_key[parts++] = type_named(fm_view(type.ptr + start, index - start));
      start = 0;
    } else {
      start = index + 1;
    }
  }
  return state;
}

int main(int count, char **arguments) {
  FILE *file = fopen(count > 1 ? arguments[1] : "../../encodings.json", "r");
  fm_test_is(file != NULL);
  static char line[1 << 16];
  int checked = 0;
  bool is_refused = false;
  while (fgets(line, sizeof line, file) != NULL) {
    if (strstr(line, "\"refused\": [") != NULL || strstr(line, "\"refused-sub-keys\": [") != NULL) is_refused = true;
    if (strstr(line, "\"sub-keys\": [") != NULL) is_refused = false;
    fmi_buffer bytes = {NULL, 0, 0}, json = {NULL, 0, 0}, name = {NULL, 0, 0};
    bool has_bytes = strstr(line, "{\"") != NULL && hex_field(line, &bytes);
    bool has_json = strstr(line, "{\"") != NULL && text_field(line, "json", &json);
    if (!has_bytes && !has_json) continue;
    checked++;
    fm_bytes type, of_bytes = fmi_bytes_of(&bytes), of_json = fmi_bytes_of(&json);
    bool is_sub_key = field(line, "type", &type);
    fm_state state = is_sub_key ? map_of(type) : (fm_state){0};
    fm_type of_type = text_field(line, "encoding", &name) ? type_named(fmi_bytes_of(&name)) : FM_NOTHING;
    if (is_refused) {
      check_refused(line, of_type, is_sub_key ? &state : NULL, has_bytes ? &of_bytes : NULL, has_json ? &of_json : NULL);
    } else if (is_sub_key) {
      check_sub_key(line, &state, of_bytes, of_json);
    } else {
      check_value(line, of_type, of_bytes, of_json);
    }
    fmi_reset(&fmi_record_arena);
  }
  fm_test_is(checked > 150);
  fclose(file);
  return fm_test_end();
}
