package sdk

// What the host calls, as `wit/` says it, with the flat parameters and the records in memory of the canonical ABI. Each call answers with
// an address where the host reads before it calls again; what lies there is kept in `answered`.

import (
	"log/slog"
	"runtime/debug"
	"strings"
	"unsafe"

	"floodmark.dev/sdk/internal/contract"
)

// collectAtPercent is how much an instance's memory may grow before it is searched for unused objects. Instances are small,
// and what an SDK call uses is used again, so it is worth to wait.
const collectAtPercent = 400

// collectAtBytes is from where on memory is searched as often as need be: plugins have 256 MiB unless a pipeline says otherwise.
const collectAtBytes = 160 << 20

func init() {
	contract.Current = host{}
	slog.SetDefault(slog.New(LogHandler()))
	debug.SetGCPercent(collectAtPercent)
	debug.SetMemoryLimit(collectAtBytes)
}

// given is what the host was told last. All of it stays where it is until the next call.
var given struct {
	record  [12]uint64
	words   []uint32
	wide    []uint64
	text    string
	column  contract.Column
	batch   contract.Batch
	plain   contract.Plain
	states  []contract.OptionalColumn
	strings []string
}

func plugged() contract.Plugin {
	if registered == nil {
		panic("no operator is registered; call `sdk.Register` in a function `init`: `main` never runs in a plugin")
	}
	return registered
}

// record is where a call's answer begins: words of 4 bytes.
func record() []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(&given.record)), 2*len(given.record))
}

// told is the address of the answer.
func told() unsafe.Pointer {
	memory.isOver = true
	return unsafe.Pointer(&given.record)
}

// failed answers with an error.
func failed(err error) unsafe.Pointer {
	given.text = strings.ToValidUTF8(err.Error(), "\uFFFD")
	words := record()
	words[0], words[1], words[2] = 1, addressOf(given.text), uint32(len(given.text))
	return told()
}

//go:wasmexport floodmark:engine/operator@0.1.0#describe
func exportDescribe() unsafe.Pointer {
	description := plugged().Describe()
	given.strings = append([]string{description.Name, description.Version}, description.Inputs...)
	given.strings = append(given.strings, description.Outputs...)
	given.wide = given.wide[:0]
	for _, state := range description.States {
		given.strings = append(given.strings, state.Name)
		hasTTL := uint64(0)
		if state.TTLMillis > 0 {
			hasTTL = 1
		}
		given.wide = append(given.wide, pair(addressOf(state.Name), uint32(len(state.Name))),
			pair(uint32(state.Kind), state.Version), hasTTL, state.TTLMillis)
	}
	given.words = given.words[:0]
	for _, text := range given.strings {
		given.words = append(given.words, addressOf(text), uint32(len(text)))
	}
	words := record()
	copy(words, given.words[:4])
	words[4], words[5] = address(given.wide), uint32(len(description.States))
	words[6], words[7] = address(given.words[4:]), uint32(len(description.Inputs))
	words[8], words[9] = address(given.words[4+2*len(description.Inputs):]), uint32(len(description.Outputs))
	return told()
}

func pair(low, high uint32) uint64 { return uint64(low) | uint64(high)<<32 }

//go:wasmexport floodmark:engine/operator@0.1.0#open
func exportOpen(options, count uint32) unsafe.Pointer {
	words := sliceOf[uint32](options, 4*count)
	config := make([][2]string, count)
	for index := range config {
		option := words[4*index : 4*index+4]
		config[index] = [2]string{string(sliceOf[byte](option[0], option[1])), string(sliceOf[byte](option[2], option[3]))}
	}
	if err := plugged().Open(config); err != nil {
		return failed(err)
	}
	record()[0] = 0
	return told()
}

//go:wasmexport floodmark:engine/input-columns@0.1.0#unread
func exportUnread() unsafe.Pointer {
	given.words = given.words[:0]
	for _, unread := range plugged().Unread() {
		word := uint32(unread.Input)
		if unread.Values {
			word |= 1 << 16
		}
		if unread.Timestamps {
			word |= 1 << 24
		}
		given.words = append(given.words, word)
	}
	copy(record(), putList(nil, given.words))
	return told()
}

//go:wasmexport floodmark:engine/operator-compact@0.1.0#process
func exportProcessCompact(input, keyEnds, keyCount, keys, keyBytes, slots, slotCount, valueEnds, valueCount, values, valueBytes, timestamps,
	timestampCount, states, stateCount uint32,
) unsafe.Pointer {
	given.batch = contract.Batch{
		Keys:       columnAt([]uint32{keyEnds, keyCount, keys, keyBytes}),
		Slots:      sliceOf[uint32](slots, slotCount),
		Values:     columnAt([]uint32{valueEnds, valueCount, values, valueBytes}),
		Timestamps: sliceOf[int64](timestamps, timestampCount),
	}
	output, err := process(input, states, stateCount)
	if err != nil {
		return failed(err)
	}
	putOutput(output, putEmissions, putValueWrites)
	return told()
}

//go:wasmexport floodmark:engine/operator@0.1.0#process
func exportProcess(input, keyEnds, keyCount, keys, keyBytes, slots, slotCount, valueEnds, valueCount, values, valueBytes, timestamps,
	timestampCount, states, stateCount uint32,
) unsafe.Pointer {
	given.batch = contract.Batch{
		Keys:       columnAt([]uint32{keyEnds, keyCount, keys, keyBytes}),
		Slots:      sliceOf[uint32](slots, slotCount),
		Values:     columnAt([]uint32{valueEnds, valueCount, values, valueBytes}),
		Timestamps: sliceOf[int64](timestamps, timestampCount),
	}
	output, err := process(input, states, stateCount)
	if err != nil {
		return failed(err)
	}
	given.plain = output.Plain(&given.batch)
	putOutput(output, putPlainEmissions, putPlainValueWrites)
	return told()
}

// process handles given.batch.
func process(input, states, stateCount uint32) (*contract.Output, error) {
	given.states = given.states[:0]
	for words := sliceOf[uint32](states, 6*stateCount); len(words) > 0; words = words[6:] {
		given.states = append(given.states, optionalColumnAt(words))
	}
	return plugged().Process(uint16(input), &given.batch, given.states)
}

// A writer appends what one list of a call's answer has.
type writer func(put []uint32, output *contract.Output) []uint32

// putOutput writes the lists one behind the other. Their addresses are known when no more is written.
func putOutput(output *contract.Output, emissions, values writer) {
	put := emissions(given.words[:0], output)
	starts := [5]int{1: len(put)}
	put = values(put, output)
	starts[2] = len(put)
	for _, one := range output.Lists {
		put = putList(putList(append(put, uint32(one.State)), one.Cleared), one.Slots)
		put = putColumn(put, one.Values)
	}
	starts[3] = len(put)
	for _, one := range output.Maps {
		put = putList(putList(append(put, uint32(one.State)), one.Cleared), one.Slots)
		put = putOptional(putColumn(put, one.SubKeys), one.Values)
	}
	starts[4] = len(put)
	for _, one := range output.Rejections {
		put = append(put, one.Record, addressOf(one.Reason), uint32(len(one.Reason)))
	}
	given.words = put
	lengths := [5]int{len(output.Emissions), len(output.Values), len(output.Lists), len(output.Maps), len(output.Rejections)}
	words := record()
	words[0] = 0
	for index, length := range lengths {
		words[1+2*index], words[2+2*index] = address(put[starts[index]:]), uint32(length)
	}
}

func putEmissions(put []uint32, output *contract.Output) []uint32 {
	for index := range output.Emissions {
		one := &output.Emissions[index]
		put = putSelection(append(put, uint32(one.Output)), &one.Records)
		put = putColumn(append(put, flag(one.HasKeys)), one.Keys)
		put = putColumn(append(put, flag(one.HasValues)), one.Values)
		put = putList(append(put, flag(one.HasTimestamps)), one.Timestamps)
	}
	return put
}

func putValueWrites(put []uint32, output *contract.Output) []uint32 {
	for index := range output.Values {
		one := &output.Values[index]
		put = putOptional(putSelection(append(put, uint32(one.State)), &one.Slots), one.Values)
	}
	return put
}

func putPlainEmissions(put []uint32, _ *contract.Output) []uint32 {
	for _, one := range given.plain.Emissions {
		put = putColumn(append(put, uint32(one.Output), flag(one.IsFresh)), one.Keys)
		put = putColumn(putList(put, one.Slots), one.Values)
		put = putList(put, one.Timestamps)
	}
	return put
}

func putPlainValueWrites(put []uint32, _ *contract.Output) []uint32 {
	for _, one := range given.plain.Values {
		put = putOptional(putList(append(put, uint32(one.State)), one.Slots), one.Values)
	}
	return put
}

// putSelection writes which case it is, and the list of that case.
func putSelection(put []uint32, selection *contract.Selection) []uint32 {
	return putList(append(put, flag(!selection.IsAll)), selection.Listed)
}

func flag(is bool) uint32 {
	if is {
		return 1
	}
	return 0
}

func putList[T any](to []uint32, list []T) []uint32 {
	if len(list) == 0 {
		// The host wants an address that a list of it could have.
		return append(to, 8, 0)
	}
	return append(to, address(list), uint32(len(list)))
}

func putColumn(to []uint32, column contract.Column) []uint32 {
	return putList(putList(to, column.Ends), column.Bytes)
}

func putOptional(to []uint32, column contract.OptionalColumn) []uint32 {
	return putList(putList(putList(to, column.Present), column.Ends), column.Bytes)
}

//go:wasmexport floodmark:engine/state-values@0.1.0#migrate
func exportMigrate(state, from, ends, count, bytes, byteCount uint32) unsafe.Pointer {
	values := columnAt([]uint32{ends, count, bytes, byteCount})
	return toldColumn(plugged().Migrate(uint16(state), from, &values))
}

//go:wasmexport floodmark:engine/state-values@0.1.0#to-json
func exportToJSON(state, part, ends, count, bytes, byteCount uint32) unsafe.Pointer {
	values := columnAt([]uint32{ends, count, bytes, byteCount})
	return toldColumn(plugged().ToJSON(uint16(state), contract.Part(part), &values))
}

//go:wasmexport floodmark:engine/state-values@0.1.0#from-json
func exportFromJSON(state, part, ends, count, bytes, byteCount uint32) unsafe.Pointer {
	texts := columnAt([]uint32{ends, count, bytes, byteCount})
	return toldColumn(plugged().FromJSON(uint16(state), contract.Part(part), &texts))
}

func toldColumn(column contract.Column, err error) unsafe.Pointer {
	if err != nil {
		return failed(err)
	}
	given.column = column
	given.words = putColumn(given.words[:0], column)
	words := record()
	words[0] = 0
	copy(words[1:], given.words)
	return told()
}

//go:wasmexport floodmark:engine/checkpoint-listener@0.1.0#completed
func exportCompleted(checkpoint uint64) {
	plugged().CheckpointCompleted(checkpoint)
	memory.isOver = true
}

//go:wasmexport floodmark:engine/checkpoint-listener@0.1.0#aborted
func exportAborted(checkpoint uint64) {
	plugged().CheckpointAborted(checkpoint)
	memory.isOver = true
}
