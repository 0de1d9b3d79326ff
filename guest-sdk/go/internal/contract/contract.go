package contract

// StateKind is what a state keeps for each key.
type StateKind uint8

// The kinds of state, as `wit/operator.wit` numbers them.
const (
	KindValue StateKind = iota
	KindList
	KindMap
)

// StateDeclaration is one declared state.
type StateDeclaration struct {
	Name    string
	Kind    StateKind
	Version uint32
	// TTLMillis is 0 for values without expiry.
	TTLMillis uint64
}

// Description says what a plugin is.
type Description struct {
	Name, Version   string
	States          []StateDeclaration
	Inputs, Outputs []string
}

// Unread says which columns of an input port calls may come without.
type Unread struct {
	Input              uint16
	Values, Timestamps bool
}

// A Selection has some of the items of a call, which are its records or its slots: every item once and in order if IsAll, and else
// those with the places in Listed.
type Selection struct {
	IsAll  bool
	Listed []uint32
}

// Emission has the records that leave by one port. Each comes from a record of the call, and has its key and its time unless there are
// Keys or Timestamps: then there is one for each emission. Without Values all are empty.
type Emission struct {
	Output                            uint16
	Records                           Selection
	HasKeys, HasValues, HasTimestamps bool
	Keys, Values                      Column
	Timestamps                        []int64
}

// ValueWrites are new values of a value state.
type ValueWrites struct {
	State  uint16
	Slots  Selection
	Values OptionalColumn
}

// AddSlot is called with slots in ascending order, each before its item is added to Values.
func (w *ValueWrites) AddSlot(slot int) {
	if w.Values.Len() != slot {
		w.list()
		w.Slots.Listed = append(w.Slots.Listed, uint32(slot))
	}
}

// Finish is called after the last slot of a call with so many keys.
func (w *ValueWrites) Finish(keys int) {
	w.Slots.IsAll = w.Values.Len() == keys
	if !w.Slots.IsAll {
		w.list()
	}
}

// list writes down the slots of a call so far, which have no gap, unless it was done before.
func (w *ValueWrites) list() {
	if len(w.Slots.Listed) > 0 {
		return
	}
	for slot := range w.Values.Len() {
		w.Slots.Listed = append(w.Slots.Listed, uint32(slot))
	}
}

// Reset forgets the writes of a call and keeps the memory.
func (w *ValueWrites) Reset() {
	w.Slots = Selection{Listed: Emptied(w.Slots.Listed)}
	w.Values.Reset()
}

// ListWrites are changes of a list state: first clears, then appends.
type ListWrites struct {
	State   uint16
	Cleared []uint32
	Slots   []uint32
	Values  Column
}

// MapWrites are changes of a map state: first clears, then sets and removals.
type MapWrites struct {
	State   uint16
	Cleared []uint32
	Slots   []uint32
	SubKeys Column
	Values  OptionalColumn
}

// Rejection is a record that the plugin does not want.
type Rejection struct {
	Record uint32
	Reason string
}

// Output is what a call returns, as `wit/operator-compact.wit` says it. [Plain] says the same without references to what was given.
type Output struct {
	Emissions  []Emission
	Values     []ValueWrites
	Lists      []ListWrites
	Maps       []MapWrites
	Rejections []Rejection
}

// Part says which bytes of a state are meant.
type Part uint8

// The parts of a state, as `wit/state-values.wit` numbers them.
const (
	PartValue Part = iota
	PartSubKey
)

// A Plugin is what the host, or a test, calls.
type Plugin interface {
	Describe() Description
	Unread() []Unread
	Open(config [][2]string) error
	// Process answers with memory that is valid until the next call.
	Process(input uint16, batch *Batch, states []OptionalColumn) (*Output, error)
	Migrate(state uint16, fromVersion uint32, values *Column) (Column, error)
	ToJSON(state uint16, part Part, values *Column) (Column, error)
	FromJSON(state uint16, part Part, texts *Column) (Column, error)
	CheckpointCompleted(checkpoint uint64)
	CheckpointAborted(checkpoint uint64)
}

// Entries are what a scan of a map answers.
type Entries struct {
	SubKeys, Values Column
	More            bool
}

// Items are what a read of a list answers.
type Items struct {
	Values Column
	// Next is the position to continue from, if HasNext.
	Next    uint64
	HasNext bool
}

// Range says which sub-keys are read, and from which end. A nil End is none.
type Range struct {
	Start, End []byte
	Descending bool
}

// Level is that of a line of the log, as `wit/log.wit` numbers them.
type Level uint8

// The levels.
const (
	LevelTrace Level = iota
	LevelDebug
	LevelInfo
	LevelWarn
	LevelError
)

// A Host is what a plugin may call.
type Host interface {
	// MapGet answers with memory that is valid until the next MapGet or ListLen.
	MapGet(state uint16, slots []uint32, subKeys *Column) OptionalColumn
	MapScan(state uint16, slot uint32, sought Range, max uint32) Entries
	ListRead(state uint16, slot uint32, start uint64, max uint32) Items
	// ListLen answers with memory that is valid until the next MapGet or ListLen.
	ListLen(state uint16, slots []uint32) []uint64
	Line(level Level, message string)
	Add(counter string, delta uint64)
	Set(gauge string, value float64)
	Observe(histogram string, values []float64)
}

// Current is the host of this process: the real one, or that of a test.
var Current Host = noHost{}

// Make makes a plugin of an operator, with options. The SDK sets it; it is here for tests of operators.
var Make func(operator any, options []any) (Plugin, error)

// noHost is used while there is no host: it ignores logs and metrics, and panics where it would have to answer.
type noHost struct{}

const outside = "lists and maps can be read only by an operator that runs in Floodmark, or in a task of package sdktest"

func (noHost) MapGet(uint16, []uint32, *Column) OptionalColumn      { panic(outside) }
func (noHost) MapScan(uint16, uint32, Range, uint32) (none Entries) { panic(outside) }
func (noHost) ListRead(uint16, uint32, uint64, uint32) (none Items) { panic(outside) }
func (noHost) ListLen(uint16, []uint32) []uint64                    { panic(outside) }
func (noHost) Line(Level, string)                                   {}
func (noHost) Add(string, uint64)                                   {}
func (noHost) Set(string, float64)                                  {}
func (noHost) Observe(string, []float64)                            {}
