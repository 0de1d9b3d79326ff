/* Misbehaves as its records say: ends, hangs, takes all memory, fails. Other records are emitted. */
#include <floodmark.h>
#include <stdlib.h>
#include <string.h>

static bool is(const fm_record *record, const char *told) { return fm_equal(record->value, fm_text(told)); }

/* Keeps the compiler from leaving out allocations that are never used. */
static void *volatile taken;

static void take_all_memory(void) {
  enum { STEP = 1 << 20 };
  do {
    taken = malloc(STEP);
    if (taken != NULL) memset(taken, 1, STEP);
  } while (taken != NULL);
  abort();
}

static void process(const fm_record *record, fm_output *out) {
  if (is(record, "trap")) abort();
  if (is(record, "memory")) take_all_memory();
  /* Not an endless loop without effect: a compiler may take that one out. */
  for (volatile bool hangs = is(record, "loop"); hangs;) continue;
  if (is(record, "error")) {
    fm_fail("as asked");
    return;
  }
  if (is(record, "log")) {
    fm_log(FM_INFO, "hello");
    return;
  }
  fm_emit(out, record->value);
}

const fm_operator floodmark_operator = {
    .process = process,
};
