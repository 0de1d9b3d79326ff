/* Emissions, rejections and metrics of a call.
 *
 * An emission has the key and the time of its record unless it says otherwise. As long as every record has emitted one such, only
 * values are written down; later the record of each as well, and keys or times if one has another. Nothing here hashes keys: one that
 * is emitted twice appears twice.
 */
#include <stdlib.h>
#include <string.h>

#include "output.h"

/* - Unless `is_listed`, record `i` has emitted item `i` of `values`; else `records` has as many items as `values`.
 * - If `has_keys`, `keys` has as many items as `values`, and so has `timestamps` if `has_timestamps`.
 * - As long as none of the three is so, `next` is how many items there are: the record that may emit without further steps. Later it is
 *   `TOLD_OTHERWISE`. */
typedef struct {
  uint32_t next;
  bool is_listed, has_keys, has_timestamps;
  fmi_buffer records;
  fmi_columns keys;
  fmi_columns values;
  fmi_buffer timestamps;
} port;

#define TOLD_OTHERWISE UINT32_MAX

struct fm_output {
  const fmi_batch *batch;
  const fm_record *record;
  size_t ports_len;
  port ports[FM_PORTS_MAX];
  fmi_buffer rejections;
};

static fm_output output;

void fmi_begin_output(const fmi_batch *batch, const fm_operator *of) {
  output.batch = batch;
  output.ports_len = 0;
  while (output.ports_len < FM_PORTS_MAX && of->outputs[output.ports_len] != NULL) output.ports_len++;
  if (output.ports_len == 0) output.ports_len = 1;
  for (size_t index = 0; index < output.ports_len; index++) {
    port *port = &output.ports[index];
    port->next = 0;
    port->is_listed = port->has_keys = port->has_timestamps = false;
    fmi_empty(&port->records);
    fmi_clear(&port->keys);
    fmi_clear(&port->values);
    fmi_empty(&port->timestamps);
  }
  fmi_empty(&output.rejections);
}

fm_output *fmi_output_of(const fm_record *record) {
  output.record = record;
  return &output;
}

static size_t emitted(const port *port) { return port->values.ends.len / sizeof(uint32_t); }

/* Writes down the records of what was emitted record for record. */
static void list(port *port) {
  port->is_listed = true;
  for (uint32_t record = 0; record < emitted(port); record++) fmi_append_u32(&port->records, record);
}

/* The one that an earlier emission comes from. */
static uint32_t record_of(const port *port, size_t emission) {
  return port->is_listed ? ((const uint32_t *)port->records.ptr)[emission] : (uint32_t)emission;
}

static void push_key_of(port *port, uint32_t record) {
  fmi_push(&port->keys, fmi_item(&output.batch->keys, output.batch->slots.ptr[record]));
}

static void push_timestamp(port *port, int64_t timestamp) {
  *(int64_t *)fmi_more(&port->timestamps, sizeof timestamp) = timestamp;
}

static void push_timestamp_of(port *port, uint32_t record) {
  if (record >= output.batch->timestamps.len) {
    fm_fail("an output port emits at times of its own and at those of records, and `unread` in plugin.toml says that those are not "
            "read; take `timestamps` out of it, or give each emission of this port a time");
    return;
  }
  push_timestamp(port, output.batch->timestamps.ptr[record]);
}

/* Writes down all but the value of an emission that is not the only one of its record, with its key and its time. */
static void tell(port *port, const fm_bytes *key, const int64_t *timestamp) {
  uint32_t record = output.record->index;
  size_t before = emitted(port);
  port->next = TOLD_OTHERWISE;
  if (!port->is_listed && before != record) list(port);
  if (key != NULL && !port->has_keys) {
    port->has_keys = true;
    for (size_t emission = 0; emission < before; emission++) push_key_of(port, record_of(port, emission));
  }
  if (key != NULL) {
    fmi_push(&port->keys, *key);
  } else if (port->has_keys) {
    push_key_of(port, record);
  }
  if (timestamp != NULL && !port->has_timestamps) {
    port->has_timestamps = true;
    for (size_t emission = 0; emission < before; emission++) push_timestamp_of(port, record_of(port, emission));
  }
  if (timestamp != NULL) {
    push_timestamp(port, *timestamp);
  } else if (port->has_timestamps) {
    push_timestamp_of(port, record);
  }
  if (port->is_listed) fmi_append_u32(&port->records, record);
}

static void emit(const fm_output *out, uint16_t index, const fm_bytes *key, const int64_t *timestamp, fm_bytes value) {
  if (index >= out->ports_len) {
    fm_fail("there is no output port %u; this operator has %zu", (unsigned)index, out->ports_len);
    return;
  }
  port *port = &output.ports[index];
  if (key == NULL && timestamp == NULL && port->next == out->record->index) {
    port->next++;
  } else {
    tell(port, key, timestamp);
  }
  fmi_push(&port->values, value);
}

void fm_emit(fm_output *out, fm_bytes value) { emit(out, 0, NULL, NULL, value); }

void fm_emit_to(fm_output *out, uint16_t port, fm_bytes value) { emit(out, port, NULL, NULL, value); }

void fm_emit_key(fm_output *out, uint16_t port, fm_bytes key, fm_bytes value) { emit(out, port, &key, NULL, value); }

void fm_emit_at(fm_output *out, uint16_t port, int64_t timestamp, fm_bytes value) { emit(out, port, NULL, &timestamp, value); }

void fm_emit_key_at(fm_output *out, uint16_t port, fm_bytes key, int64_t timestamp, fm_bytes value) {
  emit(out, port, &key, &timestamp, value);
}

void fm_reject(fm_output *out, const char *why, ...) {
  fmi_buffer *rejections = &output.rejections;
  /* Records come in order, so only the last rejection can be of this one. */
  if (rejections->len != 0) {
    const fmi_rejection *end = (const fmi_rejection *)((uint8_t *)rejections->ptr + rejections->len);
    if (end[-1].record == out->record->index) return;
  }
  va_list arguments;
  va_start(arguments, why);
  fmi_rejection *rejection = fmi_more(rejections, sizeof(fmi_rejection));
  rejection->record = out->record->index;
  rejection->reason = fmi_message(&fmi_call_arena, why, arguments);
  va_end(arguments);
}

static fmi_emission emission_of(port *port, uint16_t index) {
  fmi_emission emission;
  memset(&emission, 0, sizeof emission);
  emission.output = index;
  /* Only the first records have emitted. */
  if (!port->is_listed && emitted(port) < output.batch->slots.len) list(port);
  emission.records.is_listed = port->is_listed;
  if (port->is_listed) emission.records.listed = fmi_u32s_of(&port->records);
  emission.keys.is_fresh = port->has_keys;
  if (port->has_keys) emission.keys.fresh = fmi_column_of(&port->keys);
  emission.values.are_there = port->values.bytes.len != 0;
  if (emission.values.are_there) emission.values.column = fmi_column_of(&port->values);
  emission.timestamps.are_fresh = port->has_timestamps;
  if (port->has_timestamps) {
    fmi_i64s timestamps = {port->timestamps.ptr, port->timestamps.len / sizeof(int64_t)};
    emission.timestamps.fresh = timestamps;
  }
  return emission;
}

void fmi_end_output(fmi_output *result) {
  fmi_emission *emissions = fmi_allocate(&fmi_call_arena, output.ports_len * sizeof(fmi_emission), 8);
  size_t len = 0;
  for (size_t index = 0; index < output.ports_len; index++) {
    port *port = &output.ports[index];
    if (emitted(port) != 0) emissions[len++] = emission_of(port, (uint16_t)index);
  }
  result->emissions.ptr = emissions;
  result->emissions.len = len;
  result->rest.rejections.ptr = output.rejections.ptr;
  result->rest.rejections.len = output.rejections.len / sizeof(fmi_rejection);
}

/* ---- Metrics ---- */

#define METRICS_MAX 256

typedef enum { COUNTER, GAUGE, HISTOGRAM } metric_kind;

/* Names stay from call to call; numbers are those of one call. */
typedef struct {
  fm_bytes name;
  metric_kind kind;
  bool is_used;
  uint64_t sum;
  double last;
  fmi_buffer values;
} metric;

static metric *metrics[METRICS_MAX];
static size_t metrics_len;

static metric *metric_of(const char *name, metric_kind kind) {
  fm_bytes named = fm_text(name);
  for (size_t index = 0; index < metrics_len; index++) {
    metric *known = metrics[index];
    if (known->kind == kind && fm_equal(known->name, named)) {
      known->is_used = true;
      return known;
    }
  }
  if (metrics_len == METRICS_MAX || !fm_is_utf8(named)) return NULL;
  metric *added = calloc(1, sizeof(metric) + named.len);
  if (added == NULL) fmi_die("there is no memory for a metric; raise `limits.memory`");
  memcpy(added + 1, named.ptr, named.len);
  added->name = fm_view(added + 1, named.len);
  added->kind = kind;
  added->is_used = true;
  return metrics[metrics_len++] = added;
}

void fm_count(const char *counter, uint64_t delta) {
  metric *metric = metric_of(counter, COUNTER);
  if (metric != NULL) metric->sum = metric->sum > UINT64_MAX - delta ? UINT64_MAX : metric->sum + delta;
}

void fm_gauge(const char *gauge, double value) {
  metric *metric = metric_of(gauge, GAUGE);
  if (metric != NULL) metric->last = value;
}

void fm_observe(const char *histogram, double value) {
  metric *metric = metric_of(histogram, HISTOGRAM);
  if (metric != NULL) *(double *)fmi_more(&metric->values, sizeof value) = value;
}

void fmi_hand_over_metrics(bool is_wanted) {
  for (size_t index = 0; index < metrics_len; index++) {
    metric *metric = metrics[index];
    if (metric->is_used && is_wanted) {
      if (metric->kind == COUNTER) fmi_host_add(metric->name, metric->sum);
      if (metric->kind == GAUGE) fmi_host_set(metric->name, metric->last);
      if (metric->kind == HISTOGRAM) {
        fmi_host_observe(metric->name, metric->values.ptr, metric->values.len / sizeof(double));
      }
    }
    metric->is_used = false;
    metric->sum = 0;
    fmi_empty(&metric->values);
  }
}
