/* Tests of an operator without the host: compile it with a native compiler, this, and the SDK.
 *
 *     fm_test_begin(NULL);
 *     fm_test_send("rain", "");
 *     fm_test_send("rain", "");
 *     fm_test_run();
 *     fm_test_emits("rain", "1");
 *     fm_test_emits("rain", "2");
 *     fm_test_kill();
 *     fm_test_send("rain", "");
 *     fm_test_run();
 *     fm_test_emits("rain", "3");
 *     return fm_test_end();
 *
 * Records sent since the last run form one batch. A test that fails says where, and ends the program. Results are
 * checked as a host checks them. There is one operator, so there is one task. Variables that an operator does not name as its
 * memory survive `fm_test_kill` here; `floodmark test` runs the component itself and finds those.
 */
#ifndef FLOODMARK_TESTING_H
#define FLOODMARK_TESTING_H

#include "floodmark.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Starts over, without state. Options are alternating names and values, ended by NULL: `(const char *[]){"length", "3", NULL}`. */
void fm_test_begin(const char *const *options);

/* Adds a record to the next batch, on the first input and without a time. */
void fm_test_send(const char *key, const char *value);
/* On another input, at another time, with any bytes. A batch has one input. */
void fm_test_send_as(const char *input, fm_bytes key, fm_bytes value, int64_t timestamp);
/* Makes the operator process the batch, on a fresh instance if there is none. */
#define fm_test_run() fm_test_run_at(__FILE__, __LINE__)
/* The same for a call that must fail, with this in its message; nothing of it is applied. */
#define fm_test_run_fails(part) fm_test_run_fails_at(__FILE__, __LINE__, part)

/* The next record that was emitted by the first output. */
#define fm_test_emits(key, value) fm_test_emits_at(__FILE__, __LINE__, NULL, key, value)
/* The next one of another output. */
#define fm_test_emits_to(output, key, value) fm_test_emits_at(__FILE__, __LINE__, output, key, value)
/* The time of the record that was checked last. */
#define fm_test_emitted_at(timestamp) fm_test_emitted_at_at(__FILE__, __LINE__, timestamp)
/* Nothing more was emitted by any output. */
#define fm_test_emits_nothing() fm_test_emits_nothing_at(__FILE__, __LINE__)
/* The next rejection: the value of the record, and a part of the reason. */
#define fm_test_rejects(value, part) fm_test_rejects_at(__FILE__, __LINE__, value, part)
/* The next line of the log. */
#define fm_test_logs(level, text) fm_test_logs_at(__FILE__, __LINE__, level, text)
/* The state of a key, as JSON: a value, an array of a list, an object of a map. `"nothing"` if it has none. */
#define fm_test_keeps(state, key, json) fm_test_keeps_at(__FILE__, __LINE__, state, key, json)
/* Sets a value as an older version of the plugin wrote it, and migrates it. */
#define fm_test_keep_old(state, key, version, bytes) fm_test_keep_old_at(__FILE__, __LINE__, state, key, version, bytes)
/* Another condition that must hold. */
#define fm_test_is(condition) fm_test_is_at(__FILE__, __LINE__, #condition, condition)

/* Drops the instance. State stays. */
void fm_test_kill(void);
/* Lets time pass, for states with a time to live. */
void fm_test_pass(uint64_t ms);
void fm_test_complete_checkpoint(uint64_t checkpoint);
void fm_test_abort_checkpoint(uint64_t checkpoint);
/* The sum of a counter, or the last value of a gauge, since the beginning. */
double fm_test_metric(const char *name);
/* Reports success; returns 0 for `main`. */
int fm_test_end(void);

void fm_test_run_at(const char *file, int line);
void fm_test_run_fails_at(const char *file, int line, const char *part);
void fm_test_emits_at(const char *file, int line, const char *output, const char *key, const char *value);
void fm_test_emitted_at_at(const char *file, int line, int64_t timestamp);
void fm_test_emits_nothing_at(const char *file, int line);
void fm_test_rejects_at(const char *file, int line, const char *value, const char *part);
void fm_test_logs_at(const char *file, int line, fm_level level, const char *text);
void fm_test_keeps_at(const char *file, int line, const char *state, const char *key, const char *json);
void fm_test_keep_old_at(const char *file, int line, const char *state, const char *key, uint32_t version, fm_bytes bytes);
void fm_test_is_at(const char *file, int line, const char *condition, bool is_so);

#ifdef __cplusplus
}
#endif

#endif
