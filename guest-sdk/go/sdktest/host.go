package sdktest

import (
	"fmt"
	"log/slog"
	"slices"

	"floodmark.dev/sdk"
	"floodmark.dev/sdk/internal/contract"
)

// pageMax is how many items an answer has at most: few, so that tests turn pages.
const pageMax = 3

// host is what an operator may call while its task runs.
type host struct{ task *Task }

func (h host) keyOf(slot uint32) string { return string(h.task.keys.Get(int(slot))) }

func (h host) MapGet(state uint16, slots []uint32, subKeys *contract.Column) (answer contract.OptionalColumn) {
	for index, slot := range slots[:min(len(slots), pageMax)] {
		of := h.task.states[state].of(h.keyOf(slot))
		item, isThere := of.entries[string(subKeys.Get(index))]
		answer.Push(item.bytes, isThere)
	}
	return answer
}

func (h host) MapScan(state uint16, slot uint32, sought contract.Range, max uint32) (answer contract.Entries) {
	key := h.keyOf(slot)
	found := h.task.states[state].subKeys(key, sought)
	limit := clamp(max)
	for _, subKey := range found[:min(len(found), limit)] {
		answer.SubKeys.Push([]byte(subKey))
		answer.Values.Push(h.task.states[state].of(key).entries[subKey].bytes)
	}
	answer.More = len(found) > limit
	return answer
}

func (h host) ListRead(state uint16, slot uint32, start uint64, max uint32) (answer contract.Items) {
	of := h.task.states[state].of(h.keyOf(slot))
	limit := clamp(max)
	for index, item := range of.items {
		if position := of.start + uint64(index); position >= start {
			if answer.Values.Len() == limit {
				answer.Next, answer.HasNext = position, true
				break
			}
			answer.Values.Push(item.bytes)
		}
	}
	return answer
}

func clamp(max uint32) int { return min(int(max-min(max, 1)+1), pageMax) }

func (h host) ListLen(state uint16, slots []uint32) []uint64 {
	lengths := make([]uint64, len(slots))
	for index, slot := range slots {
		lengths[index] = uint64(len(h.task.states[state].of(h.keyOf(slot)).items))
	}
	return lengths
}

func (h host) Line(level contract.Level, message string) {
	levels := []slog.Level{sdk.LevelTrace, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	h.task.log = append(h.task.log, Line{levels[level], message})
}

func (h host) Add(counter string, delta uint64) { h.task.metrics.Counters[counter] += delta }
func (h host) Set(gauge string, value float64)  { h.task.metrics.Gauges[gauge] = value }
func (h host) Observe(name string, all []float64) {
	h.task.metrics.Histograms[name] = append(h.task.metrics.Histograms[name], all...)
}

// process calls the plugin as the host does, and applies what comes back.
func (task *Task) process(input string, records []Record) ([]Record, error) {
	if !task.isOpen {
		if err := task.plugin.Open(task.options); err != nil {
			return nil, err
		}
		task.isOpen = true
	}
	port := slices.Index(task.description.Inputs, input)
	if port < 0 {
		return nil, fmt.Errorf("there is no input `%s`; the operator has %v", input, task.description.Inputs)
	}
	batch := task.batch(records)
	var current []contract.OptionalColumn
	for _, state := range task.states {
		var column contract.OptionalColumn
		if state.Kind == contract.KindValue {
			for index := range batch.Keys.Len() {
				column.Push(state.value(string(batch.Keys.Get(index))))
			}
		}
		current = append(current, column)
	}
	output, err := task.plugin.Process(uint16(port), batch, current)
	if err != nil {
		return nil, err
	}
	emitted := task.emitted(output, batch)
	task.apply(output)
	for _, rejection := range output.Rejections {
		record := records[rejection.Record]
		task.rejected = append(task.rejected, Rejected{record.Key, record.Value, rejection.Reason})
	}
	return emitted, nil
}

// batch has each key once, in order of appearance.
func (task *Task) batch(records []Record) *contract.Batch {
	batch := &contract.Batch{}
	slots := map[string]uint32{}
	for _, record := range records {
		slot, isKnown := slots[record.Key]
		if !isKnown {
			slot = uint32(batch.Keys.Len())
			slots[record.Key] = slot
			batch.Keys.Push([]byte(record.Key))
		}
		timestamp := int64(contract.NoTimestamp)
		if record.HasTimestamp {
			timestamp = record.Timestamp
		}
		batch.Slots = append(batch.Slots, slot)
		batch.Values.Push([]byte(record.Value))
		batch.Timestamps = append(batch.Timestamps, timestamp)
	}
	task.keys = batch.Keys
	return batch
}

func (task *Task) emitted(output *contract.Output, batch *contract.Batch) (all []Record) {
	for index := range output.Emissions {
		emission := &output.Emissions[index]
		records := emission.Records.Places(len(batch.Slots))
		checkLength("keys", emission.HasKeys, emission.Keys.Len(), len(records))
		checkLength("values", emission.HasValues, emission.Values.Len(), len(records))
		checkLength("timestamps", emission.HasTimestamps, len(emission.Timestamps), len(records))
		for at, from := range records {
			key, value, timestamp := batch.Keys.Get(int(batch.Slots[from])), []byte(nil), batch.Timestamps[from]
			if emission.HasKeys {
				key = emission.Keys.Get(at)
			}
			if emission.HasValues {
				value = emission.Values.Get(at)
			}
			if emission.HasTimestamps {
				timestamp = emission.Timestamps[at]
			}
			record := R(string(key), string(value))
			if timestamp != contract.NoTimestamp {
				record = record.At(timestamp)
			}
			if len(task.description.Outputs) > 1 {
				record.Output = task.description.Outputs[emission.Output]
			}
			all = append(all, record)
		}
	}
	return all
}

func checkLength(what string, has bool, length, expected int) {
	if has && length != expected {
		panic(fmt.Sprintf("%d %s leave by a port for %d records", length, what, expected))
	}
}

func (task *Task) apply(output *contract.Output) {
	key := func(slot uint32) string { return string(task.keys.Get(int(slot))) }
	for _, writes := range output.Values {
		slots := writes.Slots.Places(task.keys.Len())
		checkLength("values", true, writes.Values.Len(), len(slots))
		checkDistinct(slots)
		for index, slot := range slots {
			bytes, isThere := writes.Values.Get(index)
			task.states[writes.State].setValue(key(slot), bytes, isThere)
		}
	}
	for _, writes := range output.Lists {
		checkDistinct(writes.Cleared)
		for _, slot := range writes.Cleared {
			task.states[writes.State].clear(key(slot))
		}
		for index, slot := range writes.Slots {
			task.states[writes.State].push(key(slot), writes.Values.Get(index))
		}
	}
	for _, writes := range output.Maps {
		checkDistinct(writes.Cleared)
		for _, slot := range writes.Cleared {
			task.states[writes.State].clear(key(slot))
		}
		written := map[string]bool{}
		for index, slot := range writes.Slots {
			subKey := string(writes.SubKeys.Get(index))
			if place := fmt.Sprint(slot, " ", subKey); written[place] {
				panic("a sub-key of a slot leaves twice")
			} else {
				written[place] = true
			}
			bytes, isThere := writes.Values.Get(index)
			task.states[writes.State].setEntry(key(slot), subKey, bytes, isThere)
		}
	}
}

func checkDistinct(slots []uint32) {
	sorted := slices.Sorted(slices.Values(slots))
	if len(slices.Compact(sorted)) != len(slots) {
		panic("a slot leaves twice")
	}
}
