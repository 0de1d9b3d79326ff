/* Values and sub-keys as JSON text, for tools that show or make state.
 *
 * One reader walks over a text and, if told so, writes it down again in compact form: no blanks, text with no more escapes
 * than it needs, numbers and the order of fields as they are. There is no tree. No operator that runs pays for this, except
 * with states of JSON.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"

#define DEPTH_MAX 128

/* What is left of a text, and where it is written down, if anywhere. */
typedef struct {
  fm_bytes rest;
  fmi_buffer *out;
} reader;

static void put(reader *reader, const void *bytes, size_t len) {
  if (reader->out != NULL) fmi_append(reader->out, fm_view(bytes, len));
}

static int peek(const reader *reader) { return reader->rest.len == 0 ? -1 : reader->rest.ptr[0]; }

static void skip(reader *reader, size_t len) { reader->rest = fm_view(reader->rest.ptr + len, reader->rest.len - len); }

static void skip_blanks(reader *reader) {
  for (int byte = peek(reader); byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r'; byte = peek(reader)) {
    skip(reader, 1);
  }
}

/* Takes this byte, with blanks in front of it. */
static bool take(reader *reader, int byte) {
  skip_blanks(reader);
  if (peek(reader) != byte) return false;
  skip(reader, 1);
  return true;
}

static int digit_of(int byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
  return byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
}

static bool read_hex4(reader *reader, uint32_t *unit) {
  *unit = 0;
  for (int index = 0; index < 4; index++) {
    int digit = digit_of(peek(reader));
    if (digit < 0) return false;
    *unit = *unit << 4 | (uint32_t)digit;
    skip(reader, 1);
  }
  return true;
}

static size_t utf8_of(uint32_t code, uint8_t *bytes) {
  if (code < 0x80) {
    bytes[0] = (uint8_t)code;
    return 1;
  }
  size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (size_t index = len - 1; index > 0; index--, code >>= 6) bytes[index] = (uint8_t)(0x80 | (code & 0x3f));
  bytes[0] = (uint8_t)((0xf00 >> len) | code);
  return len;
}

/* The character of what follows a backslash. */
static bool read_escape(reader *reader, uint32_t *code) {
  static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
  int byte = peek(reader);
  if (byte < 0) return false;
  skip(reader, 1);
  if (byte != 'u') {
    for (size_t index = 0; index + 1 < sizeof escapes; index += 2) {
      if (escapes[index] == byte) {
        *code = (uint8_t)escapes[index + 1];
        return true;
      }
    }
    return false;
  }
  if (!read_hex4(reader, code) || (*code >= 0xdc00 && *code < 0xe000)) return false;
  if (*code < 0xd800 || *code >= 0xdc00) return true;
  uint32_t low;
  if (reader->rest.len < 2 || reader->rest.ptr[0] != '\\' || reader->rest.ptr[1] != 'u') return false;
  skip(reader, 2);
  if (!read_hex4(reader, &low) || low < 0xdc00 || low >= 0xe000) return false;
  *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
  return true;
}

/* Reads text between quotes, with blanks in front of it, into `text`. */
static bool read_text(reader *reader, fmi_buffer *text) {
  if (!take(reader, '"')) return false;
  for (;;) {
    int byte = peek(reader);
    if (byte < 0x20) return false;
    skip(reader, 1);
    if (byte == '"') return true;
    uint8_t utf8[4] = {(uint8_t)byte};
    size_t len = 1;
    if (byte == '\\') {
      uint32_t code;
      if (!read_escape(reader, &code)) return false;
      len = utf8_of(code, utf8);
    }
    fmi_append(text, fm_view(utf8, len));
  }
}

static void put_text(fm_bytes text, fmi_buffer *json) {
  fmi_append(json, fm_text("\""));
  for (size_t index = 0; index < text.len; index++) {
    uint8_t byte = text.ptr[index];
    const char *shown = byte == '"'    ? "\\\""
                        : byte == '\\' ? "\\\\"
                        : byte == '\n' ? "\\n"
                        : byte == '\r' ? "\\r"
                        : byte == '\t' ? "\\t"
                        : byte == '\b' ? "\\b"
                        : byte == '\f' ? "\\f"
                                       : NULL;
    char escaped[8];
    if (shown == NULL && byte < 0x20) {
      snprintf(escaped, sizeof escaped, "\\u%04x", byte);
      shown = escaped;
    }
    fmi_append(json, shown != NULL ? fm_text(shown) : fm_view(&byte, 1));
  }
  fmi_append(json, fm_text("\""));
}

static bool copy_text(reader *reader) {
  fmi_buffer text = {NULL, 0, 0};
  bool is_text = read_text(reader, &text);
  if (is_text && reader->out != NULL) put_text(fmi_bytes_of(&text), reader->out);
  free(text.ptr);
  return is_text;
}

static size_t digits(fm_bytes text, size_t at) {
  size_t len = 0;
  while (at + len < text.len && text.ptr[at + len] >= '0' && text.ptr[at + len] <= '9') len++;
  return len;
}

/* How long the number at the front is; 0 if there is none. */
static size_t number_len(fm_bytes text, bool *is_whole) {
  size_t at = text.len != 0 && text.ptr[0] == '-';
  size_t whole = digits(text, at);
  if (whole == 0 || (whole > 1 && text.ptr[at] == '0')) return 0;
  at += whole;
  *is_whole = true;
  if (at < text.len && text.ptr[at] == '.') {
    size_t fraction = digits(text, at + 1);
    if (fraction == 0) return 0;
    at += 1 + fraction;
    *is_whole = false;
  }
  if (at < text.len && (text.ptr[at] | 0x20) == 'e') {
    at += at + 1 < text.len && (text.ptr[at + 1] == '+' || text.ptr[at + 1] == '-');
    size_t exponent = digits(text, at + 1);
    if (exponent == 0) return 0;
    at += 1 + exponent;
    *is_whole = false;
  }
  return at;
}

static bool copy_any(reader *reader, int depth);

static bool copy_members(reader *reader, int depth, int end) {
  for (;;) {
    if (end == '}') {
      if (!copy_text(reader) || !take(reader, ':')) return false;
      put(reader, ":", 1);
    }
    if (!copy_any(reader, depth + 1)) return false;
    if (take(reader, end)) return true;
    if (!take(reader, ',')) return false;
    put(reader, ",", 1);
  }
}

/* Any JSON, with blanks in front of it. */
static bool copy_any(reader *reader, int depth) {
  skip_blanks(reader);
  int byte = peek(reader);
  if (depth == DEPTH_MAX) return false;
  if (byte == '"') return copy_text(reader);
  if (byte == '[' || byte == '{') {
    int end = byte == '[' ? ']' : '}';
    put(reader, reader->rest.ptr, 1);
    skip(reader, 1);
    if (!take(reader, end) && !copy_members(reader, depth, end)) return false;
    char ended = (char)end;
    put(reader, &ended, 1);
    return true;
  }
  static const char *const words[] = {"null", "true", "false"};
  size_t len = 0;
  for (size_t index = 0; index < 3; index++) {
    size_t word = strlen(words[index]);
    if (reader->rest.len >= word && memcmp(reader->rest.ptr, words[index], word) == 0) len = word;
  }
  bool is_whole;
  if (len == 0) len = number_len(reader->rest, &is_whole);
  put(reader, reader->rest.ptr, len);
  skip(reader, len);
  return len != 0;
}

static bool is_over(reader *reader) {
  skip_blanks(reader);
  return reader->rest.len == 0;
}

bool fmi_is_json(fm_bytes text) {
  reader reader = {text, NULL};
  return fm_is_utf8(text) && copy_any(&reader, 0) && is_over(&reader);
}

static bool compact(fm_bytes text, fmi_buffer *out) {
  if (!fmi_is_json(text)) return false;
  reader reader = {text, out};
  return copy_any(&reader, 0);
}

/* ---- Values ---- */

/* Shortest digits that read as the same number. What is not a number is `null`. */
static void put_f64(double number, fmi_buffer *json) {
  char text[40] = "null";
  for (int precision = 1; isfinite(number) && precision <= 17; precision++) {
    snprintf(text, sizeof text, "%.*g", precision, number);
    if (strtod(text, NULL) == number) break;
  }
  fmi_append(json, fm_text(text));
}

static void put_raw(fm_bytes bytes, fmi_buffer *json) {
  if (fm_is_utf8(bytes)) {
    put_text(bytes, json);
    return;
  }
  fmi_append(json, fm_text("{\"hex\":\""));
  for (size_t index = 0; index < bytes.len; index++) {
    char shown[3];
    snprintf(shown, sizeof shown, "%02x", bytes.ptr[index]);
    fmi_append(json, fm_text(shown));
  }
  fmi_append(json, fm_text("\"}"));
}

static void put_signed(int64_t number, fmi_buffer *json) {
  if (number < 0) fmi_append(json, fm_text("-"));
  fmi_append(json, fm_decimal(number < 0 ? 0 - (uint64_t)number : (uint64_t)number));
}

bool fmi_value_to_json(fm_type type, fm_bytes bytes, fmi_buffer *json) {
  fmi_datum value = {0, {NULL, 0}};
  if (type == FM_JSON) return compact(bytes, json);
  if (!fmi_decode(type, bytes, &value)) return false;
  if (type == FM_U64) fmi_append(json, fm_decimal(value.number));
  if (type == FM_I64) put_signed((int64_t)value.number, json);
  if (type == FM_F64) put_f64(fmi_f64_of(value.number), json);
  if (type == FM_BOOL) fmi_append(json, fm_text(value.number ? "true" : "false"));
  if (type == FM_UNIT) fmi_append(json, fm_text("null"));
  if (type == FM_TEXT) put_text(value.bytes, json);
  if (type == FM_RAW) put_raw(value.bytes, json);
  return true;
}

static bool read_word(reader *reader, const char *word) {
  size_t len = strlen(word);
  skip_blanks(reader);
  if (reader->rest.len < len || memcmp(reader->rest.ptr, word, len) != 0) return false;
  skip(reader, len);
  return true;
}

static bool read_bool(reader *reader, uint64_t *value) {
  *value = read_word(reader, "true");
  return *value || read_word(reader, "false");
}

/* An integer of so many bytes. */
static bool read_integer(reader *reader, bool is_signed, size_t bytes, uint64_t *value) {
  bool is_whole = false;
  skip_blanks(reader);
  size_t len = number_len(reader->rest, &is_whole);
  fm_bytes text = fm_view(reader->rest.ptr, len);
  skip(reader, len);
  if (len == 0 || !is_whole) return false;
  if (!is_signed) return fm_parse_u64(text, value) && (bytes == 8 || *value >> (8 * bytes) == 0);
  int64_t number;
  if (!fm_parse_i64(text, &number)) return false;
  int64_t end = bytes == 8 ? INT64_MAX : ((int64_t)1 << (8 * bytes - 1)) - 1;
  *value = (uint64_t)number;
  return number <= end && number >= -end - 1;
}

static bool read_f64(reader *reader, uint64_t *value) {
  bool is_whole;
  skip_blanks(reader);
  size_t len = number_len(reader->rest, &is_whole);
  if (len == 0) return false;
  char *text = fm_scratch(len + 1);
  memcpy(text, reader->rest.ptr, len);
  text[len] = 0;
  skip(reader, len);
  double number = strtod(text, NULL);
  *value = fmi_of_f64(number).number;
  return isfinite(number);
}

/* Text, or `{"hex": ".."}`. */
static bool read_raw(reader *reader, fmi_buffer *bytes) {
  skip_blanks(reader);
  if (peek(reader) == '"') return read_text(reader, bytes);
  fmi_buffer name = {NULL, 0, 0}, hex = {NULL, 0, 0};
  bool is_hex = take(reader, '{') && read_text(reader, &name) && fm_equal(fmi_bytes_of(&name), fm_text("hex")) &&
                take(reader, ':') && read_text(reader, &hex) && take(reader, '}') && hex.len % 2 == 0;
  const uint8_t *at = hex.ptr;
  for (size_t index = 0; is_hex && index < hex.len; index += 2) {
    int high = digit_of(at[index]), low = digit_of(at[index + 1]);
    is_hex = high >= 0 && low >= 0;
    uint8_t byte = (uint8_t)(high << 4 | low);
    if (is_hex) fmi_append(bytes, fm_view(&byte, 1));
  }
  free(name.ptr);
  free(hex.ptr);
  return is_hex;
}

static bool read_value(fm_type type, reader *reader, fmi_datum *value, fmi_buffer *bytes) {
  switch (type) {
    case FM_U64:
    case FM_I64:
      return read_integer(reader, type == FM_I64, 8, &value->number);
    case FM_F64:
      return read_f64(reader, &value->number);
    case FM_BOOL:
      return read_bool(reader, &value->number);
    case FM_UNIT:
      return read_word(reader, "null");
    case FM_TEXT:
      return read_text(reader, bytes);
    case FM_RAW:
      return read_raw(reader, bytes);
    default:
      return false;
  }
}

bool fmi_value_from_json(fm_type type, fm_bytes json, fmi_buffer *value) {
  if (type == FM_JSON) return compact(json, value);
  reader reader = {json, NULL};
  fmi_datum read = {0, {NULL, 0}};
  fmi_buffer bytes = {NULL, 0, 0};
  bool is_value = fm_is_utf8(json) && read_value(type, &reader, &read, &bytes) && is_over(&reader);
  read.bytes = fmi_bytes_of(&bytes);
  if (is_value) fmi_encode(type, read, value);
  free(bytes.ptr);
  return is_value;
}

/* ---- Sub-keys ---- */

static bool is_signed_type(fm_type type) { return type >= FM_I8 || type == FM_I64; }

bool fmi_sub_key_to_json(const fm_state *state, fm_bytes sub_key, fmi_buffer *json) {
  if (!fmi_is_sub_key(state, sub_key)) return false;
  bool is_tuple = state->sub_key[1] != FM_NOTHING;
  for (size_t part = 0; part < FM_SUB_KEY_PARTS_MAX && state->sub_key[part] != FM_NOTHING; part++) {
    fm_type type = state->sub_key[part];
    size_t len = fmi_fixed_bytes(type);
    if (is_tuple) fmi_append(json, fm_text(part == 0 ? "[" : ","));
    if (type == FM_TEXT) {
      put_text(sub_key, json);
    } else if (type == FM_RAW) {
      put_raw(sub_key, json);
    } else if (type == FM_BOOL) {
      fmi_append(json, fm_text(fm_sub_key_take_unsigned(&sub_key, 1) ? "true" : "false"));
    } else if (is_signed_type(type)) {
      put_signed(fm_sub_key_take_signed(&sub_key, len), json);
    } else {
      fmi_append(json, fm_decimal(fm_sub_key_take_unsigned(&sub_key, len)));
    }
  }
  if (is_tuple) fmi_append(json, fm_text("]"));
  return true;
}

static bool read_sub_key(fm_type type, reader *reader, fmi_buffer *sub_key) {
  if (type == FM_TEXT) return read_text(reader, sub_key);
  if (type == FM_RAW) return read_raw(reader, sub_key);
  size_t len = fmi_fixed_bytes(type);
  bool is_signed = is_signed_type(type);
  uint64_t value;
  bool is_read = type == FM_BOOL ? read_bool(reader, &value) : read_integer(reader, is_signed, len, &value);
  if (!is_read) return false;
  fmi_append(sub_key, is_signed ? fm_sub_key_signed((int64_t)value, len) : fm_sub_key_unsigned(value, len));
  return true;
}

bool fmi_sub_key_from_json(const fm_state *state, fm_bytes json, fmi_buffer *sub_key) {
  reader reader = {json, NULL};
  bool is_tuple = state->sub_key[1] != FM_NOTHING;
  if (!fm_is_utf8(json) || (is_tuple && !take(&reader, '['))) return false;
  for (size_t part = 0; part < FM_SUB_KEY_PARTS_MAX && state->sub_key[part] != FM_NOTHING; part++) {
    if (part != 0 && !take(&reader, ',')) return false;
    if (!read_sub_key(state->sub_key[part], &reader, sub_key)) return false;
  }
  return (!is_tuple || take(&reader, ']')) && is_over(&reader);
}
