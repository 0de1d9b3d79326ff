/* Counts words: for the n-th record of a key it emits `n`, from 1 on, as decimal text under the same key.
 *
 * It does not look at values, so it counts anything that has a key.
 */
#include <floodmark.h>

/* How often each word was seen. */
static fm_value count = FM_VALUE("count", FM_U64);

static void process(const fm_record *word, fm_output *out) {
  (void)word;
  uint64_t n = fm_value_get_u64(&count, 0) + 1;
  fm_value_set_u64(&count, n);
  fm_emit(out, fm_decimal(n));
}

const fm_operator floodmark_operator = {
    .states = {&count.state},
    .process = process,
};
