/* Catches emissions that name a wrong record, `all` that is said where it is not so or not said where it is, and a call in fewer
 * bytes that means something else than the plain one.
 *
 * Keys are letters that say what their records emit and write, so the test needs no values: it is compiled a second time as an
 * operator that reads neither values nor times.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/contract.h"
#include "floodmark_testing.h"

enum { RECORDS_MAX = 12, LETTERS_MAX = 3, EMITTED_MAX = RECORDS_MAX * LETTERS_MAX };

static fm_value number = FM_VALUE("number", FM_I64);
static fm_value text = FM_VALUE("text", FM_TEXT);

/* Lower case is the first port, upper case the second. */
static void process(const fm_record *record, fm_output *out) {
  for (size_t at = 0; at < record->key.len; at++) {
    char letter = (char)record->key.ptr[at];
    uint16_t port = letter >= 'A' && letter <= 'Z';
    switch (letter | ' ') {
      case 'e':
        fm_emit_to(out, port, fm_text("value"));
        break;
      case 'n':
        fm_emit_to(out, port, fm_text(""));
        break;
      case 'l':
        fm_emit_to(out, port, fm_text("a value of more than sixteen bytes"));
        break;
      case 'k':
        fm_emit_key(out, port, fm_text("other"), fm_decimal(9876543210u));
        break;
      case 't':
        fm_emit_at(out, port, 7, fm_text("timed"));
        break;
      case 'b':
        fm_emit_key_at(out, port, fm_text(""), 8, fm_text(""));
        break;
      case 's':
        fm_value_set_i64(&number, fm_value_get_i64(&number, 0) - 100);
        fm_value_set_bytes(&text, record->key);
        break;
      case 'c':
        fm_value_clear(&number);
        fm_value_clear(&text);
        break;
    }
  }
}

const fm_operator floodmark_operator = {
    .states = {&number.state, &text.state}, .outputs = {"one", "two"}, .process = process};

/* One emission, and the record that it comes from. */
typedef struct {
  uint32_t record;
  fm_bytes key, value;
  int64_t timestamp;
} shown;

typedef struct {
  shown items[2][EMITTED_MAX];
  size_t len[2];
} shown_ports;

static struct {
  fmi_columns keys, values, numbers, texts;
  uint32_t slots[RECORDS_MAX];
  int64_t timestamps[RECORDS_MAX];
  fmi_batch batch;
  fmi_optional_column states[2];
} call;

static uint64_t seed = 12;
static uint32_t random_below(uint32_t end) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(seed >> 33) % end;
}

static void draw(const char *letters) {
  static const uint8_t all_present[] = {0xff, 0x0f};
  fmi_clear(&call.keys), fmi_clear(&call.values), fmi_clear(&call.numbers), fmi_clear(&call.texts);
  size_t len = random_below(RECORDS_MAX) + 1;
  for (size_t record = 0; record < len; record++) {
    char key[LETTERS_MAX];
    size_t key_len = random_below(LETTERS_MAX) + 1;
    for (size_t at = 0; at < key_len; at++) key[at] = letters[random_below((uint32_t)strlen(letters))];
    fmi_column keys = fmi_column_of(&call.keys);
    uint32_t slot = 0;
    while (slot < keys.ends.len && !fm_equal(fmi_item(&keys, slot), fm_view(key, key_len))) slot++;
    if (slot == keys.ends.len) {
      fmi_push(&call.keys, fm_view(key, key_len));
      fmi_push(&call.numbers, fm_text("\x03"));
      fmi_push(&call.texts, fm_text("\x03old"));
    }
    call.slots[record] = slot;
    call.timestamps[record] = (int64_t)random_below(100);
    fmi_push(&call.values, fm_text("never read"));
  }
  fmi_batch batch = {
      fmi_column_of(&call.keys), {call.slots, len}, fmi_column_of(&call.values), {call.timestamps, len}};
  call.batch = batch;
  fmi_columns *states[] = {&call.numbers, &call.texts};
  for (size_t state = 0; state < 2; state++) {
    fmi_column column = fmi_column_of(states[state]);
    fmi_optional_column current = {{all_present, (column.ends.len + 7) / 8}, column.ends, column.bytes};
    call.states[state] = current;
  }
}

static void show(shown_ports *ports, size_t port, uint32_t record, fm_bytes key, fm_bytes value, int64_t timestamp) {
  shown made = {record, key, value, timestamp};
  ports->items[port][ports->len[port]++] = made;
}

static fm_bytes key_of(size_t record) { return fmi_item(&call.batch.keys, call.slots[record]); }

static void expect(shown_ports *ports) {
  memset(ports, 0, sizeof *ports);
  for (uint32_t record = 0; record < call.batch.slots.len; record++) {
    fm_bytes key = key_of(record);
    int64_t timestamp = call.timestamps[record];
    for (size_t at = 0; at < key.len; at++) {
      char letter = (char)key.ptr[at];
      size_t port = letter >= 'A' && letter <= 'Z';
      letter |= ' ';
      if (letter == 'e') show(ports, port, record, key, fm_text("value"), timestamp);
      if (letter == 'n') show(ports, port, record, key, fm_text(""), timestamp);
      if (letter == 'l') show(ports, port, record, key, fm_text("a value of more than sixteen bytes"), timestamp);
      if (letter == 'k') show(ports, port, record, fm_text("other"), fm_text("9876543210"), timestamp);
      if (letter == 't') show(ports, port, record, key, fm_text("timed"), 7);
      if (letter == 'b') show(ports, port, record, fm_text(""), fm_text(""), 8);
    }
  }
}

static bool is_all(const uint32_t *records, size_t len) {
  for (size_t index = 0; index < len; index++) {
    if (records[index] != index) return false;
  }
  return len == call.batch.slots.len;
}

static void check_compact(const fmi_output *output, const shown_ports *expected) {
  size_t ports = 0;
  for (size_t at = 0; at < output->emissions.len; at++) {
    const fmi_emission *one = &output->emissions.ptr[at];
    const shown *items = expected->items[one->output];
    size_t len = one->records.is_listed ? one->records.listed.len : call.batch.slots.len, bytes = 0;
    fm_test_is(len == expected->len[one->output]);
    uint32_t records[EMITTED_MAX];
    for (size_t index = 0; index < len; index++) {
      records[index] = one->records.is_listed ? one->records.listed.ptr[index] : (uint32_t)index;
      fm_bytes key = one->keys.is_fresh ? fmi_item(&one->keys.fresh, index) : key_of(records[index]);
      fm_bytes value = one->values.are_there ? fmi_item(&one->values.column, index) : fm_text("");
      int64_t same = call.timestamps[records[index]];
      fm_test_is(records[index] == items[index].record && fm_equal(key, items[index].key));
      fm_test_is(fm_equal(value, items[index].value));
      fm_test_is((one->timestamps.are_fresh ? one->timestamps.fresh.ptr[index] : same) == items[index].timestamp);
      bytes += value.len;
    }
    fm_test_is(one->records.is_listed == !is_all(records, len));
    fm_test_is(one->values.are_there == (bytes != 0));
    ports++;
  }
  fm_test_is(ports == (size_t)(expected->len[0] != 0) + (expected->len[1] != 0));
}

static void check_plain(const fmi_plain_output *output, const shown_ports *expected) {
  for (size_t at = 0; at < output->emissions.len; at++) {
    const fmi_plain_emission *one = &output->emissions.ptr[at];
    const shown *items = expected->items[one->output];
    const fmi_column *keys = one->keys.is_fresh ? &one->keys.fresh : &call.batch.keys;
    fm_test_is(one->slots.len == expected->len[one->output] && one->timestamps.len == one->slots.len);
    for (size_t index = 0; index < one->slots.len; index++) {
      fm_test_is(fm_equal(fmi_item(keys, one->slots.ptr[index]), items[index].key));
      fm_test_is(fm_equal(fmi_item(&one->values, index), items[index].value));
      fm_test_is(one->timestamps.ptr[index] == items[index].timestamp);
    }
  }
}

/* The slots whose letters write, in order. */
static size_t written_slots(uint32_t *slots) {
  size_t len = 0;
  for (uint32_t slot = 0; slot < call.batch.keys.ends.len; slot++) {
    fm_bytes key = fmi_item(&call.batch.keys, slot);
    bool is_written = false;
    for (size_t at = 0; at < key.len; at++) is_written |= strchr("sScC", key.ptr[at]) != NULL;
    if (is_written) slots[len++] = slot;
  }
  return len;
}

static void check_compact_writes(const fmi_output *output) {
  uint32_t slots[RECORDS_MAX];
  size_t len = written_slots(slots);
  fm_test_is(output->values.len == (len == 0 ? 0u : 2u));
  for (size_t at = 0; at < output->values.len; at++) {
    const fmi_value_writes *writes = &output->values.ptr[at];
    fm_test_is(writes->slots.is_listed == (len != call.batch.keys.ends.len) && writes->values.ends.len == len);
    if (!writes->slots.is_listed) continue;
    fm_test_is(writes->slots.listed.len == len && memcmp(writes->slots.listed.ptr, slots, len * sizeof *slots) == 0);
  }
}

static void check_plain_writes(const fmi_plain_output *output) {
  uint32_t slots[RECORDS_MAX];
  size_t len = written_slots(slots);
  for (size_t at = 0; at < output->values.len; at++) {
    fmi_u32s written = output->values.ptr[at].slots;
    fm_test_is(written.len == len && memcmp(written.ptr, slots, len * sizeof *slots) == 0);
  }
}

static void check(const char *letters) {
  static shown_ports expected;
  for (int batch = 0; batch < 500; batch++) {
    draw(letters);
    expect(&expected);
    fmi_result result;
    fmi_process(0, &call.batch, call.states, 2, &result);
    fm_test_is(!result.is_error);
    check_compact(&result.as.output, &expected);
    check_compact_writes(&result.as.output);
    fmi_returned();
    fmi_process_plain(0, &call.batch, call.states, 2, &result);
    fm_test_is(!result.is_error);
    check_plain(&result.as.plain, &expected);
    check_plain_writes(&result.as.plain);
    fmi_returned();
  }
}

/* An emission without a time needs that of its record if another one of its port has one. */
static void check_mixed_times(void) {
  fmi_result result;
  do draw("et");
  while (fmi_item(&call.batch.keys, 0).len < 2 || !fm_equal(fm_view(key_of(0).ptr, 2), fm_text("et")));
  fmi_process(0, &call.batch, call.states, 2, &result);
#ifdef FM_UNREAD_TIMESTAMPS
  fm_test_is(result.is_error && strstr((const char *)result.as.error.ptr, "take `timestamps` out of it") != NULL);
#else
  fm_test_is(!result.is_error);
#endif
  fmi_returned();
}

static void check_unread(void) {
  const fmi_unread *unread;
  size_t len = fmi_unread_columns(&unread);
#ifdef FM_UNREAD_TIMESTAMPS
  fm_test_is(len == 1 && unread[0].input == 0 && unread[0].values && unread[0].timestamps);
#else
  fm_test_is(len == 0);
#endif
}

int main(void) {
  fm_test_begin(NULL);
  fmi_result result;
  fmi_open(NULL, 0, &result);
  fmi_returned();
  const char *const all[] = {"e", "n", "eE-", "elkN", "s", "sec", "kKs-", "tT", "elnkENLKsc-", "tb-"};
  for (size_t index = 0; index < sizeof all / sizeof all[0]; index++) check(all[index]);
#ifndef FM_UNREAD_TIMESTAMPS
  check("enktbENKTBsc--");
#endif
  check_mixed_times();
  check_unread();
  return fm_test_end();
}
