/* What the task of a test keeps: the states of all keys. Only for the files of `testing/`. */
#ifndef FLOODMARK_TESTING_KEPT_H
#define FLOODMARK_TESTING_KEPT_H

#include "../src/contract.h"

/* A value has the sub-key of no bytes, an item of a list its position. Sorted by state, key and sub-key. */
typedef struct {
  uint16_t state;
  fm_bytes key;
  fm_bytes sub_key;
  fm_bytes value;
  uint64_t written_ms;
} kept_row;

/* The time, in milliseconds since the task began. */
extern uint64_t kept_now_ms;
/* The keys of the current call, or NULL. */
extern const fmi_column *kept_keys;

/* The rows of a key that are not over yet, in order; `*len` of them. They live until the next change. */
kept_row **kept_rows(uint16_t state, fm_bytes key, size_t *len);
void kept_put(uint16_t state, fm_bytes key, fm_bytes sub_key, fm_bytes value);
void kept_remove(uint16_t state, fm_bytes key, fm_bytes sub_key);
void kept_clear(uint16_t state, fm_bytes key);
void kept_append(uint16_t state, fm_bytes key, fm_bytes value);
void kept_forget_all(void);
/* Bytes that are never freed: tests are small. */
fm_bytes kept_copy(fm_bytes bytes);
void *kept_memory(size_t bytes);

#endif
