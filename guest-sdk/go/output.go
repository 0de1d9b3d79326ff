package sdk

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"floodmark.dev/sdk/internal/contract"
)

// An Output is where an operator emits records. They leave when the whole batch has been processed.
type Output struct {
	call       *call
	record     int
	names      []string
	ports      []emitted
	rejections []contract.Rejection
}

// Emit emits a record with the key and the time of the one that is being processed, by the first output port.
func (o *Output) Emit(value []byte) { o.first().Emit(value) }

// EmitString is Emit for text.
func (o *Output) EmitString(value string) { o.first().EmitString(value) }

// EmitDecimal is Emit for a number as decimal text.
func (o *Output) EmitDecimal(value uint64) { o.first().EmitDecimal(value) }

// Emitf is Emit for text that is formatted as by package fmt.
func (o *Output) Emitf(format string, arguments ...any) { o.first().Emitf(format, arguments...) }

// To starts a record that leaves by the port of this name.
func (o *Output) To(port string) Emission {
	for index, name := range o.names {
		if name == port {
			return Emission{out: o, port: &o.ports[index]}
		}
	}
	panic(failure{fmt.Errorf("there is no output `%s`; this operator has `%s`", port, strings.Join(o.names, "`, `"))})
}

// Key starts a record with another key.
func (o *Output) Key(key []byte) Emission { return o.first().Key(key) }

// KeyString is Key for text.
func (o *Output) KeyString(key string) Emission { return o.first().KeyString(key) }

// At starts a record with another event time, in milliseconds since 1970.
func (o *Output) At(timestamp int64) Emission { return o.first().At(timestamp) }

// Reject refuses the record that is being processed: it goes where the pipeline's `on-error` says, such as to the dead letters,
// or fails the job, and the other records of the batch count. The reason is for people.
//
// What this record has emitted or written to states before stays: reject first. Of several reasons the first counts.
func (o *Output) Reject(reason string) {
	record := uint32(o.record)
	// Records come in order, so only the last rejection can be of this one.
	if last := len(o.rejections) - 1; last >= 0 && o.rejections[last].Record == record {
		return
	}
	o.rejections = append(o.rejections, contract.Rejection{Record: record, Reason: strings.ToValidUTF8(reason, "\uFFFD")})
}

// Rejectf is Reject with a reason that is formatted as by package fmt.
func (o *Output) Rejectf(format string, arguments ...any) {
	o.Reject(fmt.Sprintf(format, arguments...))
}

func (o *Output) first() Emission { return Emission{out: o, port: &o.ports[0]} }

func (o *Output) begin(call *call) {
	o.call = call
	for index := range o.ports {
		o.ports[index].reset()
	}
	clear(o.rejections)
	o.rejections = o.rejections[:0]
}

// finish appends what was emitted to what leaves with the call.
func (o *Output) finish(to []contract.Emission) []contract.Emission {
	for index := range o.ports {
		if port := &o.ports[index]; port.values.Len() > 0 {
			to = append(to, port.columns(uint16(index), o.call.batch))
		}
	}
	return to
}

// An Emission is a record on its way out. It leaves with one of the Emit methods.
type Emission struct {
	out       *Output
	port      *emitted
	key       []byte
	timestamp int64
	hasKey    bool
	hasTime   bool
}

// Key gives it another key.
func (e Emission) Key(key []byte) Emission {
	e.key, e.hasKey = key, true
	return e
}

// KeyString gives it another key.
func (e Emission) KeyString(key string) Emission {
	return e.Key(unsafe.Slice(unsafe.StringData(key), len(key)))
}

// At gives it another event time, in milliseconds since 1970.
func (e Emission) At(timestamp int64) Emission {
	e.timestamp, e.hasTime = timestamp, true
	return e
}

// Emit emits it.
func (e Emission) Emit(value []byte) {
	values := e.begin()
	values.Push(value)
}

// EmitString emits it with text.
func (e Emission) EmitString(value string) {
	values := e.begin()
	values.Bytes = append(values.Bytes, value...)
	values.EndItem()
}

// EmitDecimal emits it with a number as decimal text.
func (e Emission) EmitDecimal(value uint64) {
	values := e.begin()
	values.Bytes = strconv.AppendUint(values.Bytes, value, 10)
	values.EndItem()
}

// Emitf emits it with text that is formatted as by package fmt.
func (e Emission) Emitf(format string, arguments ...any) {
	// An argument may emit, or panic, while it is formatted.
	e.EmitString(fmt.Sprintf(format, arguments...))
}

// begin writes down all but the value.
func (e *Emission) begin() *contract.Column {
	port, batch, record := e.port, e.out.call.batch, e.out.record
	if e.hasKey || e.hasTime || port.isSpelledOut || port.values.Len() != record {
		port.spellOut(batch)
		slot, timestamp := batch.Slots[record], batch.Timestamps[record]
		if e.hasKey || port.isFresh {
			key := e.key
			if !e.hasKey {
				key = batch.Keys.Get(int(slot))
			}
			slot = port.freshSlot(batch, key)
		}
		if e.hasTime {
			timestamp = e.timestamp
		}
		port.slots = append(port.slots, slot)
		port.timestamps = append(port.timestamps, timestamp)
	}
	return &port.values
}

// emitted is what leaves by one port in one call. Its memory is used again by the next call.
//
//   - As long as each record emits one record with its own key and time, only values grows: slots and timestamps are those of
//     the batch. Once isSpelledOut, slots, values and timestamps have the same length.
//   - If isFresh, slots are indexes of keys; else they are those of the call, and keys is empty.
type emitted struct {
	isSpelledOut, isFresh bool
	keys                  contract.Column
	slots                 []uint32
	values                contract.Column
	timestamps            []int64
}

func (p *emitted) reset() {
	p.isSpelledOut, p.isFresh = false, false
	p.keys.Reset()
	p.values.Reset()
	p.slots, p.timestamps = contract.Emptied(p.slots), contract.Emptied(p.timestamps)
}

func (p *emitted) columns(output uint16, batch *contract.Batch) contract.Emission {
	emission := contract.Emission{Output: output, IsFresh: p.isFresh, Keys: p.keys, Values: p.values}
	if p.isSpelledOut {
		emission.Slots, emission.Timestamps = p.slots, p.timestamps
	} else {
		emission.Slots, emission.Timestamps = batch.Slots[:p.values.Len()], batch.Timestamps[:p.values.Len()]
	}
	return emission
}

// spellOut writes down the slots and timestamps of what was emitted record for record.
func (p *emitted) spellOut(batch *contract.Batch) {
	if p.isSpelledOut {
		return
	}
	p.isSpelledOut = true
	done := p.values.Len()
	// One emission a record is what most operators make.
	p.slots = append(slices.Grow(p.slots, len(batch.Slots)), batch.Slots[:done]...)
	p.timestamps = append(slices.Grow(p.timestamps, len(batch.Slots)), batch.Timestamps[:done]...)
}

// freshSlot is the slot of a key in keys. The first call turns the port to fresh keys.
func (p *emitted) freshSlot(batch *contract.Batch, key []byte) uint32 {
	if !p.isFresh {
		p.isFresh = true
		if len(p.slots) > 0 {
			// What was emitted before keeps its slots: the keys of the call come first.
			p.keys.Ends = append(p.keys.Ends, batch.Keys.Ends...)
			p.keys.Bytes = append(p.keys.Bytes, batch.Keys.Bytes...)
		}
	}
	p.keys.Push(key)
	return uint32(p.keys.Len() - 1)
}
