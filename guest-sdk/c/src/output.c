/* Emissions, rejections and metrics of a call.
 *
 * An emission has the key and the time of its record unless it says otherwise. As long as a port has only such ones it names
 * keys by their slots, and no key is copied; as long as every record has emitted one, the slots and times are those of the
 * batch itself. Nothing here hashes keys: one that is emitted twice stands twice.
 */
#include <stdlib.h>
#include <string.h>

#include "output.h"

/* - While `is_like_batch`, record `i` has emitted item `i` of `values`, and `slots` and `timestamps` are empty.
 * - Once `is_fresh`, slots are indexes of `keys`. */
typedef struct {
  bool is_like_batch;
  bool is_fresh;
  fmi_columns keys;
  fmi_buffer slots;
  fmi_columns values;
  fmi_buffer timestamps;
} port;

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
    port->is_like_batch = true;
    port->is_fresh = false;
    fmi_clear(&port->keys);
    fmi_clear(&port->values);
    fmi_empty(&port->slots);
    fmi_empty(&port->timestamps);
  }
  fmi_empty(&output.rejections);
}

fm_output *fmi_output_of(const fm_record *record) {
  output.record = record;
  return &output;
}

static size_t emitted(const port *port) { return port->values.ends.len / sizeof(uint32_t); }

/* Writes down the slots and times of what was emitted record for record. */
static void spell_out(port *port) {
  size_t len = emitted(port);
  const fmi_batch *batch = output.batch;
  fmi_append(&port->slots, fm_view(batch->slots.ptr, len * sizeof(uint32_t)));
  fmi_append(&port->timestamps, fm_view(batch->timestamps.ptr, len * sizeof(int64_t)));
  port->is_like_batch = false;
}

static uint32_t fresh_slot(port *port, const fm_bytes *key) {
  if (!port->is_fresh) {
    port->is_fresh = true;
    if (port->slots.len != 0) {
      /* What was emitted before keeps its slots: the keys of the call come first. */
      const fmi_column *keys = &output.batch->keys;
      fmi_append(&port->keys.ends, fm_view(keys->ends.ptr, keys->ends.len * sizeof(uint32_t)));
      fmi_append(&port->keys.bytes, keys->bytes);
    }
  }
  uint32_t fresh = (uint32_t)(port->keys.ends.len / sizeof(uint32_t));
  fmi_push(&port->keys, key != NULL ? *key : output.record->key);
  return fresh;
}

static port *port_at(const fm_output *out, uint16_t index) {
  if (index < out->ports_len) return &output.ports[index];
  fm_fail("there is no output port %u; this operator has %zu", (unsigned)index, out->ports_len);
  return NULL;
}

static void emit_otherwise(port *port, const fm_bytes *key, int64_t timestamp) {
  if (port->is_like_batch) spell_out(port);
  uint32_t slot = key != NULL || port->is_fresh ? fresh_slot(port, key) : output.record->slot;
  fmi_append_u32(&port->slots, slot);
  *(int64_t *)fmi_more(&port->timestamps, sizeof timestamp) = timestamp;
}

void fm_emit_to(fm_output *out, uint16_t index, fm_bytes value) {
  port *port = port_at(out, index);
  if (port == NULL) return;
  if (!port->is_like_batch || emitted(port) != out->record->index) emit_otherwise(port, NULL, out->record->timestamp);
  fmi_push(&port->values, value);
}

void fm_emit(fm_output *out, fm_bytes value) { fm_emit_to(out, 0, value); }

void fm_emit_key(fm_output *out, uint16_t port, fm_bytes key, fm_bytes value) {
  fm_emit_key_at(out, port, key, out->record->timestamp, value);
}

void fm_emit_at(fm_output *out, uint16_t index, int64_t timestamp, fm_bytes value) {
  port *port = port_at(out, index);
  if (port == NULL) return;
  emit_otherwise(port, NULL, timestamp);
  fmi_push(&port->values, value);
}

void fm_emit_key_at(fm_output *out, uint16_t index, fm_bytes key, int64_t timestamp, fm_bytes value) {
  port *port = port_at(out, index);
  if (port == NULL) return;
  emit_otherwise(port, &key, timestamp);
  fmi_push(&port->values, value);
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

void fmi_end_output(fmi_output *result) {
  fmi_emission *emissions = fmi_allocate(&fmi_call_arena, output.ports_len * sizeof(fmi_emission), 8);
  size_t len = 0;
  for (size_t index = 0; index < output.ports_len; index++) {
    port *port = &output.ports[index];
    if (emitted(port) == 0) continue;
    fmi_emission *emission = &emissions[len++];
    memset(emission, 0, sizeof *emission);
    emission->output = (uint16_t)index;
    emission->keys.is_fresh = port->is_fresh;
    if (port->is_fresh) emission->keys.fresh = fmi_column_of(&port->keys);
    emission->values = fmi_column_of(&port->values);
    size_t count = emitted(port);
    bool is_like_batch = port->is_like_batch;
    emission->slots.ptr = is_like_batch ? output.batch->slots.ptr : port->slots.ptr;
    emission->slots.len = count;
    emission->timestamps.ptr = is_like_batch ? output.batch->timestamps.ptr : port->timestamps.ptr;
    emission->timestamps.len = count;
  }
  result->emissions.ptr = emissions;
  result->emissions.len = len;
  result->rejections.ptr = output.rejections.ptr;
  result->rejections.len = output.rejections.len / sizeof(fmi_rejection);
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
