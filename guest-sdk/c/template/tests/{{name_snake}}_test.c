/* Catches counts that start at 0, that mix up words, or that are lost with an instance. */
#include <floodmark_testing.h>

int main(void) {
  fm_test_begin(NULL);
  fm_test_send("rain", "");
  fm_test_send("sun", "");
  fm_test_send("rain", "any value");
  fm_test_run();
  fm_test_emits("rain", "1");
  fm_test_emits("sun", "1");
  fm_test_emits("rain", "2");
  fm_test_kill();
  fm_test_send("rain", "");
  fm_test_run();
  fm_test_emits("rain", "3");
  fm_test_emits_nothing();
  fm_test_keeps("count", "rain", "3");
  return fm_test_end();
}
