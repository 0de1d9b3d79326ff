package sdk

import (
	"fmt"
	"unicode/utf8"

	"floodmark.dev/sdk/internal/contract"
)

// An Operator processes one record after the other. Its states are fields of the types [Value], [List] and [Map]; all other
// fields are settings and caches.
//
// The host may drop an operator between any two batches and open another one, so what must last belongs in a state.
type Operator interface {
	// Process handles one record. States are those of its key. After an error nothing of the batch is applied, and the job
	// fails unless the pipeline says how to handle such records. A panic is an error, too.
	Process(record Record, out *Output) error
}

// An Opener is an operator with a configuration. The job does not start after an error.
type Opener interface {
	Open(config *Config) error
}

// An operator with InputPorts has other input ports than one called "in".
type InputPorts interface {
	Inputs() []string
}

// An operator with OutputPorts has other output ports than one called "out".
type OutputPorts interface {
	Outputs() []string
}

// An operator with UnreadColumns says, for each of its input ports, which columns it does not read, so that the host need not pass them.
// The answer must always be the same. Reading such a column fails; an emission without a time of its own still has the time of its
// record.
type UnreadColumns interface {
	Unread(input string) Columns
}

// Columns are parts of the records of an input port, such as RecordValues|RecordTimestamps.
type Columns uint8

// Columns that an operator may leave unread. Keys are always passed.
const (
	RecordValues Columns = 1 << iota
	RecordTimestamps
)

// A CheckpointListener is told whether checkpoints completed. Best effort: a call may be missed, so a completed checkpoint stands
// for all with a smaller number, and a fresh instance has been told of none. No state can be used here.
type CheckpointListener interface {
	// CheckpointCompleted is called when a checkpoint is durable: what was processed before it is never processed again.
	CheckpointCompleted(checkpoint uint64)
	// CheckpointAborted is called when a checkpoint was aborted; a later one includes what it would have included.
	CheckpointAborted(checkpoint uint64)
}

// A Record is a record that is being processed. It is a position in the batch, so columns that an operator does not read cost nothing.
// Its bytes are views that are valid until Process returns, and must not be changed.
type Record struct {
	call  *call
	index int
}

// Key is its key.
func (r Record) Key() []byte { return r.call.key(r.index) }

// Value is its value.
func (r Record) Value() []byte {
	values := &r.call.batch.Values
	if uint(r.index) >= uint(len(values.Ends)) {
		r.call.refuseUnread("value", "RecordValues")
	}
	return values.Get(r.index)
}

// Text is a copy of the value as text. It fails if the value is not UTF-8.
func (r Record) Text() (string, error) {
	value := r.Value()
	if !utf8.Valid(value) {
		return "", fmt.Errorf("the value `%s` is not UTF-8", readable(value))
	}
	return string(value), nil
}

// Timestamp is its event time in milliseconds since 1970-01-01T00:00:00Z, if it has one.
func (r Record) Timestamp() (int64, bool) {
	timestamp := r.call.timestamp(r.index)
	return timestamp, timestamp != contract.NoTimestamp
}

// Input is the name of its input port.
func (r Record) Input() string { return r.call.input }

// A call is what an operator and its states share while a batch is processed.
//
//   - slot is the key of the current record; outside of Process it is noSlot.
type call struct {
	batch  *contract.Batch // without the columns that the operator does not read
	states []contract.OptionalColumn
	input  string
	slot   int
}

const noSlot = -1

func (c *call) key(record int) []byte { return c.batch.Keys.Get(int(c.batch.Slots[record])) }

func (c *call) timestamp(record int) int64 {
	if uint(record) >= uint(len(c.batch.Timestamps)) {
		c.refuseUnread("time", "RecordTimestamps")
	}
	return c.batch.Timestamps[record]
}

func (c *call) refuseUnread(what, column string) {
	panic(failure{fmt.Errorf("the %s of a record of input `%s` is needed, and the operator's method Unread says that it is not read; "+
		"take sdk.%s out of what it returns for this input", what, c.input, column)})
}
