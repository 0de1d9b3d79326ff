// Package sdktest runs an operator without Floodmark and without WebAssembly, in ordinary Go tests: a task whose instance can be killed,
// with the state beside it.
//
// It takes the same path as the component, from the columns of the contract to the columns of the contract, and refuses what a host would
// refuse. It has no limits, no failures of its own and no clock but the one that the test moves. Tasks are not for parallel tests: what
// an operator may call is one host a process.
package sdktest

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"floodmark.dev/sdk"
	"floodmark.dev/sdk/internal/contract"
)

// A Task is one task of an operator: an instance, which can be killed, and the state, which stays.
type Task struct {
	t           testing.TB
	plugin      contract.Plugin
	operator    sdk.Operator
	options     [][2]string
	description contract.Description
	isOpen      bool
	keys        contract.Column
	states      []*kept
	now         uint64
	rejected    []Rejected
	log         []Line
	metrics     Metrics
}

// Options are a pipeline's options for the operator, by name.
type Options map[string]string

// Record is a record that a test hands over, or that was emitted.
type Record struct {
	Key, Value string
	// Timestamp is in milliseconds since 1970, if HasTimestamp.
	Timestamp    int64
	HasTimestamp bool
	// Output is the output port of an emitted record.
	Output string
}

// R is a record without a time.
func R(key, value string) Record { return Record{Key: key, Value: value} }

// At is the record with a time.
func (r Record) At(timestamp int64) Record {
	r.Timestamp, r.HasTimestamp = timestamp, true
	return r
}

// To is the record as emitted to a port.
func (r Record) To(output string) Record {
	r.Output = output
	return r
}

// Rejected is a record that the operator has rejected.
type Rejected struct{ Key, Value, Reason string }

// Line is a line of the log.
type Line struct {
	Level   slog.Level
	Message string
}

// Metrics are what the operator has reported.
type Metrics struct {
	Counters   map[string]uint64
	Gauges     map[string]float64
	Histograms map[string][]float64
}

// New is a task of an operator with these options. It is opened with the first records.
func New(t testing.TB, operator sdk.Operator, options ...Options) *Task {
	t.Helper()
	task := &Task{t: t, operator: operator}
	for _, some := range options {
		for _, name := range slices.Sorted(maps.Keys(some)) {
			task.options = append(task.options, [2]string{name, some[name]})
		}
	}
	task.metrics = Metrics{map[string]uint64{}, map[string]float64{}, map[string][]float64{}}
	task.plugin = task.make()
	task.description = task.plugin.Describe()
	for _, declared := range task.description.States {
		task.states = append(task.states, &kept{StateDeclaration: declared, task: task})
	}
	return task
}

func (task *Task) make() contract.Plugin {
	task.t.Helper()
	plugin, err := contract.Make(task.operator, nil)
	if err != nil {
		task.t.Fatalf("%T is not an operator: %v", task.operator, err)
	}
	return plugin
}

// Run processes one batch of records of the first input port, and returns the emitted records, port by port. Output is set only
// if the operator has several outputs.
func (task *Task) Run(records ...Record) []Record {
	task.t.Helper()
	return task.RunOn(task.description.Inputs[0], records...)
}

// RunOn is Run for another input port.
func (task *Task) RunOn(input string, records ...Record) []Record {
	task.t.Helper()
	emitted, err := task.TryOn(input, records...)
	if err != nil {
		task.t.Fatalf("the operator failed: %v", err)
	}
	return emitted
}

// Try is Run for records that fail: the state does not change, and the instance is dropped.
func (task *Task) Try(records ...Record) ([]Record, error) {
	task.t.Helper()
	return task.TryOn(task.description.Inputs[0], records...)
}

// TryOn is Try for another input port.
func (task *Task) TryOn(input string, records ...Record) ([]Record, error) {
	task.t.Helper()
	before := contract.Current
	contract.Current = host{task}
	logger := slog.Default()
	slog.SetDefault(slog.New(sdk.LogHandler()))
	defer func() {
		contract.Current = before
		slog.SetDefault(logger)
	}()
	emitted, err := task.process(input, records)
	if err != nil {
		task.Kill()
	}
	return emitted, err
}

// Kill drops the instance, as the host may between any two batches. The next batch gets a fresh one.
func (task *Task) Kill() {
	task.t.Helper()
	task.plugin, task.isOpen = task.make(), false
}

// Pass lets time pass, for states with a time to live.
func (task *Task) Pass(time time.Duration) { task.now += uint64(time.Milliseconds()) }

// Upgrade is the task with another version of its operator, as after a swap. States keep what they have; those of an older
// version are migrated.
func (task *Task) Upgrade(operator sdk.Operator) *Task {
	task.t.Helper()
	upgraded := New(task.t, operator)
	upgraded.options, upgraded.now = task.options, task.now
	for index, state := range upgraded.states {
		for _, old := range task.states {
			if old.Name != state.Name {
				continue
			}
			if old.Kind != state.Kind {
				task.t.Fatalf("state `%s` is kept as another kind", old.Name)
			}
			state.keys = old.keys
			if old.Version != state.Version {
				upgraded.migrate(uint16(index), old.Version, state)
			}
		}
	}
	return upgraded
}

func (task *Task) migrate(index uint16, from uint32, state *kept) {
	task.t.Helper()
	err := state.rewrite(func(values *contract.Column) (contract.Column, error) {
		return task.plugin.Migrate(index, from, values)
	})
	if err != nil {
		task.t.Fatalf("state `%s` cannot be taken over: %v", state.Name, err)
	}
}

// CompleteCheckpoint tells the operator that a checkpoint is durable.
func (task *Task) CompleteCheckpoint(checkpoint uint64) { task.plugin.CheckpointCompleted(checkpoint) }

// AbortCheckpoint tells the operator that a checkpoint was aborted.
func (task *Task) AbortCheckpoint(checkpoint uint64) { task.plugin.CheckpointAborted(checkpoint) }

// JSON is what a state keeps for a key, as tools show it: JSON text; an array for a list, an array of pairs of sub-key and value for a
// map. It is empty if there is nothing.
func (task *Task) JSON(state, key string) string {
	task.t.Helper()
	index, of := task.state(state)
	text, err := of.json(key, func(part contract.Part, values *contract.Column) (contract.Column, error) {
		return task.plugin.ToJSON(index, part, values)
	})
	if err != nil {
		task.t.Fatalf("state `%s` cannot be shown: %v", state, err)
	}
	return text
}

// SetJSON sets a value state, as tools do: by JSON text.
func (task *Task) SetJSON(state, key, text string) {
	task.t.Helper()
	index, of := task.state(state)
	var texts contract.Column
	texts.Push([]byte(text))
	values, err := task.plugin.FromJSON(index, contract.PartValue, &texts)
	if err != nil {
		task.t.Fatalf("state `%s` cannot be set: %v", state, err)
	}
	of.setValue(key, values.Bytes, true)
}

// Bytes is what a value state keeps for a key.
func (task *Task) Bytes(state, key string) ([]byte, bool) {
	task.t.Helper()
	_, of := task.state(state)
	return of.value(key)
}

// SetBytes sets the bytes of a value state, such as those that another plugin wrote.
func (task *Task) SetBytes(state, key string, bytes []byte) {
	task.t.Helper()
	_, of := task.state(state)
	of.setValue(key, bytes, true)
}

// Rejected returns the records that were rejected since its last call.
func (task *Task) Rejected() []Rejected {
	rejected := task.rejected
	task.rejected = nil
	return rejected
}

// Log returns the lines that were logged since its last call. Printed text is not among them here.
func (task *Task) Log() []Line {
	lines := task.log
	task.log = nil
	return lines
}

// Metrics are what the operator has reported.
func (task *Task) Metrics() Metrics { return task.metrics }

func (task *Task) state(name string) (uint16, *kept) {
	task.t.Helper()
	for index, state := range task.states {
		if state.Name == name {
			return uint16(index), state
		}
	}
	task.t.Fatalf("no state `%s` is declared; there are %s", name, fmt.Sprint(task.description.States))
	return 0, nil
}
