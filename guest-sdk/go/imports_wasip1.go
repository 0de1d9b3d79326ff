package sdk

// What the host offers, as `wit/` says it, with the flat parameters of the canonical ABI: a list is an address and a length, a record is
// its fields, and what does not fit into one result is written to an address.

import (
	"unsafe"

	"floodmark.dev/sdk/internal/contract"
)

//go:wasmimport floodmark:engine/state@0.1.0 map-get
//go:noescape
func mapGet(state, slots, slotCount, ends, endCount, bytes, byteCount uint32, answer unsafe.Pointer)

//go:wasmimport floodmark:engine/state@0.1.0 map-scan
//go:noescape
func mapScan(state, slot, start, startBytes, hasEnd, end, endBytes, descending, max uint32, answer unsafe.Pointer)

//go:wasmimport floodmark:engine/state@0.1.0 list-read
//go:noescape
func listRead(state, slot uint32, start uint64, max uint32, answer unsafe.Pointer)

//go:wasmimport floodmark:engine/state@0.1.0 list-len
//go:noescape
func listLen(state, slots, slotCount uint32, answer unsafe.Pointer)

//go:wasmimport floodmark:engine/log@0.1.0 line
func logLine(level, message, bytes uint32)

//go:wasmimport floodmark:engine/metrics@0.1.0 add
func metricsAdd(name, bytes uint32, delta uint64)

//go:wasmimport floodmark:engine/metrics@0.1.0 set
func metricsSet(name, bytes uint32, value float64)

//go:wasmimport floodmark:engine/metrics@0.1.0 observe
func metricsObserve(name, bytes, values, valueCount uint32)

// answer is where answers are written: at most ten words, on a boundary of 8 bytes.
var answer [8]uint64

func answerWords() []uint32 { return unsafe.Slice((*uint32)(unsafe.Pointer(&answer)), 2*len(answer)) }

func columnAt(words []uint32) contract.Column {
	return contract.Column{Ends: sliceOf[uint32](words[0], words[1]), Bytes: sliceOf[byte](words[2], words[3])}
}

func optionalColumnAt(words []uint32) contract.OptionalColumn {
	rest := columnAt(words[2:])
	return contract.OptionalColumn{Present: sliceOf[byte](words[0], words[1]), Ends: rest.Ends, Bytes: rest.Bytes}
}

type host struct{}

func (host) MapGet(state uint16, slots []uint32, subKeys *contract.Column) contract.OptionalColumn {
	asking(false)
	defer answered()
	mapGet(uint32(state), address(slots), uint32(len(slots)), address(subKeys.Ends), uint32(len(subKeys.Ends)),
		address(subKeys.Bytes), uint32(len(subKeys.Bytes)), unsafe.Pointer(&answer))
	return optionalColumnAt(answerWords())
}

func (host) MapScan(state uint16, slot uint32, sought contract.Range, max uint32) contract.Entries {
	asking(true)
	defer answered()
	hasEnd, descending := uint32(0), uint32(0)
	if sought.End != nil {
		hasEnd = 1
	}
	if sought.Descending {
		descending = 1
	}
	mapScan(uint32(state), slot, address(sought.Start), uint32(len(sought.Start)), hasEnd, address(sought.End), uint32(len(sought.End)),
		descending, max, unsafe.Pointer(&answer))
	words := answerWords()
	return contract.Entries{SubKeys: columnAt(words), Values: columnAt(words[4:]), More: words[8]&1 != 0}
}

func (host) ListRead(state uint16, slot uint32, start uint64, max uint32) contract.Items {
	asking(true)
	defer answered()
	listRead(uint32(state), slot, start, max, unsafe.Pointer(&answer))
	words := answerWords()
	// The position stands on a boundary of 8 bytes, behind the word that says whether there is one.
	return contract.Items{Values: columnAt(words), HasNext: words[4]&1 != 0, Next: answer[3]}
}

func (host) ListLen(state uint16, slots []uint32) []uint64 {
	asking(false)
	defer answered()
	listLen(uint32(state), address(slots), uint32(len(slots)), unsafe.Pointer(&answer))
	words := answerWords()
	return sliceOf[uint64](words[0], words[1])
}

func (host) Line(level contract.Level, message string) {
	logLine(uint32(level), addressOf(message), uint32(len(message)))
}

func (host) Add(counter string, delta uint64) {
	metricsAdd(addressOf(counter), uint32(len(counter)), delta)
}

func (host) Set(gauge string, value float64) {
	metricsSet(addressOf(gauge), uint32(len(gauge)), value)
}

func (host) Observe(histogram string, values []float64) {
	metricsObserve(addressOf(histogram), uint32(len(histogram)), address(values), uint32(len(values)))
}
