/* Catches state that leaks between keys, records or calls, mistakes that pass for success, and errors that do not say where. */
#include <stdio.h>
#include <string.h>

#include "floodmark_testing.h"

static void with_errors(fm_bytes old, fm_migrated *now) {
  fm_bytes text = fm_format("{ \"all\": %llu }", (unsigned long long)fm_decode_u64(old));
  fm_migrated_bytes(now, text);
}

static fm_value text = FM_VALUE("text", FM_TEXT);
static fm_value number = FM_VALUE("number", FM_U64, .ttl_ms = FM_SECONDS(2));
static fm_value clicks = FM_VALUE("clicks", FM_JSON, .version = 2, .migrations = {{.from = 1, .with = with_errors}});
static fm_map pairs = FM_MAP("pairs", FM_SUB_KEY(FM_I16, FM_TEXT), FM_F64);
static fm_value stray = FM_VALUE("stray", FM_U64);

static struct {
  int64_t limit;
  int records;
} self;

static void open(const fm_config *config) {
  self.limit = fm_config_i64(config, "limit", 7);
  if (fm_config_bool(config, "strict", false)) fm_config_require(config, "word");
}

static bool is(const fm_record *record, const char *told) { return fm_equal(record->value, fm_text(told)); }

static void process(const fm_record *record, fm_output *out) {
  self.records++;
  fm_count("records", 1);
  if (is(record, "records")) fm_emit(out, fm_decimal((uint64_t)self.records));
  if (is(record, "twice")) fm_emit(out, fm_text("1")), fm_emit(out, fm_text("2"));
  if (is(record, "like")) fm_emit(out, record->value);
  if (is(record, "key")) fm_emit_key(out, 0, fm_text("other"), record->value);
  if (is(record, "at")) fm_emit_at(out, 1, 42, record->value);
  if (is(record, "limit")) fm_emit(out, fm_format("%lld", (long long)self.limit));
  if (is(record, "no port")) fm_emit_to(out, 2, record->value);
  if (is(record, "reject")) fm_reject(out, "because %d", 1), fm_reject(out, "and 2");
  if (is(record, "fail")) fm_fail("failed at %s", fm_readable(record->key)), fm_fail("again");
  if (is(record, "\xff")) fm_fail("%.*s", FM_SHOWN(record->value));
  if (is(record, "set")) fm_value_set_bytes(&text, record->key), fm_value_set_u64(&number, 300);
  if (is(record, "get")) fm_emit(out, fm_value_get_bytes(&text, fm_text("none")));
  if (is(record, "clear")) fm_value_clear(&text);
  if (is(record, "number")) fm_emit(out, fm_decimal(fm_value_get_u64(&number, 0)));
  if (is(record, "wrong type")) fm_value_set_i64(&number, -1);
  if (is(record, "no text")) fm_value_set_bytes(&text, fm_view("\xff", 1));
  if (is(record, "no json")) fm_value_set_bytes(&clicks, fm_text("{"));
  if (is(record, "stray")) fm_value_set_u64(&stray, 1);
  if (is(record, "pair")) fm_map_put_f64(&pairs, fm_join(fm_sub_key_i16(-2), fm_text("é")), 0.1);
  if (is(record, "no pair")) fm_map_put_f64(&pairs, fm_text("x"), 1);
  if (is(record, "log")) fm_log(FM_WARN, "a line about %s", fm_readable(record->key));
}

static void completed(uint64_t checkpoint) {
  fm_log(FM_DEBUG, "completed %d", (int)checkpoint);
  fm_value_set_u64(&number, 1);
}

const fm_operator floodmark_operator = {
    .states = {&text.state, &number.state, &clicks.state, &pairs.state},
    .outputs = {"out", "late"},
    FM_MEMORY(self),
    .open = open,
    .process = process,
    .checkpoint_completed = completed,
};

static void run(const char *key, const char *value) {
  fm_test_send(key, value);
  fm_test_run();
}

static void fails(const char *value, const char *part) {
  fm_test_send("k", "set");
  fm_test_send("k", value);
  fm_test_run_fails(part);
  fm_test_emits_nothing();
  fm_test_keeps("text", "k", "nothing");
}

static void test_emissions(void) {
  fm_test_begin(NULL);
  const char *const values[] = {"like", "like", "twice", "key", "like", "at"};
  for (int index = 0; index < 6; index++) {
    fm_test_send_as(NULL, fm_text(index % 2 ? "b" : "a"), fm_text(values[index]), 10 + index);
  }
  fm_test_run();
  fm_test_emits("a", "like");
  fm_test_emitted_at(10);
  fm_test_emits("b", "like");
  fm_test_emits("a", "1");
  fm_test_emits("a", "2");
  fm_test_emitted_at(12);
  fm_test_emits("other", "key");
  fm_test_emitted_at(13);
  fm_test_emits("a", "like");
  fm_test_emits_to("late", "b", "at");
  fm_test_emitted_at(42);
  fm_test_emits_nothing();
  fm_test_is(fm_test_metric("records") == 6);
  run("k", "reject");
  fm_test_rejects("reject", "because 1");
  run("k", "log");
  fm_test_logs(FM_WARN, "a line about k");
}

static void test_states(void) {
  fm_test_begin(NULL);
  fm_test_send("a", "set");
  fm_test_send("b", "get");
  fm_test_send("a", "get");
  fm_test_run();
  fm_test_emits("b", "none");
  fm_test_emits("a", "a");
  fm_test_keeps("text", "a", "\"a\"");
  fm_test_keeps("text", "b", "nothing");
  run("a", "clear");
  fm_test_keeps("text", "a", "nothing");
  fm_test_pass(1999);
  run("a", "number");
  fm_test_emits("a", "300");
  fm_test_pass(1);
  run("a", "number");
  fm_test_emits("a", "0");
  run("a", "pair");
  fm_test_keeps("pairs", "a", "{[-2,\"é\"]:0.1}");
  fm_test_keep_old("clicks", "a", 1, fm_view("\x03", 1));
  fm_test_keeps("clicks", "a", "{\"all\":3}");
}

static void test_errors(void) {
  fm_test_begin(NULL);
  fails("fail", "failed at k");
  fails("\xff", "?");
  fails("no port", "there is no output port 2; this operator has 2");
  fails("wrong type", "state `number` keeps u64; it is used as if it kept i64");
  fails("no text", "state `text` keeps text, and `\\xff` is not valid");
  fails("no json", "state `clicks` keeps JSON, and `{` is not valid");
  fails("no pair", "`x` is not a sub-key of state `pairs`");
  fails("stray", "state `stray` cannot be used here");
  /* After an error the operator is opened again. */
  run("k", "records");
  fm_test_emits("k", "1");
  run("k", "records");
  fm_test_emits("k", "2");
  fm_test_complete_checkpoint(5);
  fm_test_logs(FM_DEBUG, "completed 5");
  fm_test_logs(FM_WARN, "state `number` cannot be used here: it can be used only within `process`, and only if it is among the "
                        "operator's states");
}

static void test_options(void) {
  fm_test_begin((const char *[]){"limit", "-3", NULL});
  run("k", "limit");
  fm_test_emits("k", "-3");
  const struct {
    const char *name, *value, *why;
  } wrong[] = {{"limit", "3x", "option `limit` is `3x`: it is not a whole number"},
               {"limt", "3", "unknown option `limt`; this operator knows `limit`, `strict`"},
               {"strict", "true", "option `word` is missing; set it"},
               {"strict", "1", "it is neither `true` nor `false`"}};
  for (size_t index = 0; index < sizeof wrong / sizeof wrong[0]; index++) {
    fm_test_begin((const char *[]){wrong[index].name, wrong[index].value, NULL});
    fm_test_send("k", "");
    fm_test_run_fails(wrong[index].why);
  }
}

int main(void) {
  test_emissions();
  test_states();
  test_errors();
  test_options();
  return fm_test_end();
}
