// Catches a header that is not C++17, and names that do not link from it.
#include <string>

#include "floodmark_testing.h"

static fm_value last = FM_VALUE("last", FM_TEXT, .ttl_ms = FM_HOURS(1));

static void process(const fm_record *record, fm_output *out) {
  std::string text(fm_string_view(fm_value_get_bytes(&last, fm_text("none"))));
  text += " then ";
  text += fm_string_view(record->value);
  fm_emit(out, fm_view(text));
  fm_value_set_bytes(&last, record->value);
}

const fm_operator floodmark_operator = {.states = {&last.state}, .process = process};

int main() {
  fm_test_begin(nullptr);
  fm_test_send("k", "a");
  fm_test_send("k", "b");
  fm_test_run();
  fm_test_emits("k", "none then a");
  fm_test_emits("k", "a then b");
  fm_test_keeps("last", "k", "\"b\"");
  return fm_test_end();
}
