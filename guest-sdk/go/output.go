package sdk

import (
	"fmt"
	"slices"
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

// Emit emits a record with the key and the time of the one that is being processed, to the first output port.
func (o *Output) Emit(value []byte) { o.first().Emit(value) }

// EmitString is Emit for text.
func (o *Output) EmitString(value string) { o.first().EmitString(value) }

// EmitDecimal is Emit for a number as decimal text.
func (o *Output) EmitDecimal(value uint64) {
	port := &o.ports[0]
	if port.next != o.record {
		o.first().EmitDecimal(value)
		return
	}
	port.next++
	bytes := appendDecimal(port.values.Bytes, value)
	port.values.Bytes = bytes
	port.values.Ends = append(port.values.Ends, uint32(len(bytes)))
}

// Emitf is Emit for text that is formatted as by package fmt.
func (o *Output) Emitf(format string, arguments ...any) { o.first().Emitf(format, arguments...) }

// To starts a record for the output port of this name.
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

// Reject rejects the record that is being processed: the pipeline's `on-error` decides what follows, such as a dead letter,
// and the other records of the batch are not affected. The reason is for people.
//
// What this record has emitted or written to states before stays, so reject first. Of several reasons the first counts.
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
			to = append(to, port.emission(uint16(index), o.call.batch))
		}
	}
	return to
}

// An Emission is a record under construction. One of the Emit methods emits it.
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
	values.Bytes = appendDecimal(values.Bytes, value)
	values.EndItem()
}

// Emitf emits it with text that is formatted as by package fmt.
func (e Emission) Emitf(format string, arguments ...any) {
	// An argument may emit, or panic, while it is formatted.
	e.EmitString(fmt.Sprintf(format, arguments...))
}

// begin writes down all but the value.
func (e *Emission) begin() *contract.Column {
	port := e.port
	if e.hasKey || e.hasTime || port.next != e.out.record {
		port.tell(e)
	} else {
		port.next++
	}
	return &port.values
}

// emitted is what leaves by one port in one call. Its memory is used again by the next call.
//
//   - Unless isListed, record i has emitted item i of values; else records has as many items as values.
//   - If hasKeys, keys has as many items as values, and so has timestamps if hasTimestamps.
//   - As long as there are only values, next is how many there are, and so the record that may emit without further steps. Later it is
//     toldOtherwise.
type emitted struct {
	next                             int
	isListed, hasKeys, hasTimestamps bool
	records                          []uint32
	keys, values                     contract.Column
	timestamps                       []int64
}

const toldOtherwise = -1

func (p *emitted) reset() {
	p.next, p.isListed, p.hasKeys, p.hasTimestamps = 0, false, false, false
	p.records, p.timestamps = contract.Emptied(p.records), contract.Emptied(p.timestamps)
	p.keys.Reset()
	p.values.Reset()
}

func (p *emitted) emission(output uint16, batch *contract.Batch) contract.Emission {
	if !p.isListed && p.values.Len() < len(batch.Slots) {
		// Only the first records have emitted.
		p.list(batch)
	}
	made := contract.Emission{
		Output: output, Records: contract.Selection{IsAll: !p.isListed, Listed: p.records},
		HasKeys: p.hasKeys, Keys: p.keys, HasTimestamps: p.hasTimestamps, Timestamps: p.timestamps,
	}
	if len(p.values.Bytes) > 0 {
		made.HasValues, made.Values = true, p.values
	}
	return made
}

// tell writes down all but the value of an emission that is not the only one of its record, with its key and its time.
func (p *emitted) tell(e *Emission) {
	call, record := e.out.call, e.out.record
	p.next = toldOtherwise
	if !p.isListed && p.values.Len() != record {
		p.list(call.batch)
	}
	if e.hasKey || p.hasKeys {
		key := e.key
		if !e.hasKey {
			key = call.key(record)
		}
		p.pushKey(call, key)
	}
	if e.hasTime || p.hasTimestamps {
		timestamp := e.timestamp
		if !e.hasTime {
			timestamp = call.timestamp(record)
		}
		p.pushTimestamp(call, timestamp)
	}
	if p.isListed {
		p.records = append(p.records, uint32(record))
	}
}

// list writes down the records of what was emitted record for record.
func (p *emitted) list(batch *contract.Batch) {
	p.isListed = true
	// One emission per record is what most operators make.
	p.records = slices.Grow(p.records, len(batch.Slots))
	for record := range p.values.Len() {
		p.records = append(p.records, uint32(record))
	}
}

// record is the one that an earlier emission comes from.
func (p *emitted) record(emission int) int {
	if p.isListed {
		return int(p.records[emission])
	}
	return emission
}

func (p *emitted) pushKey(call *call, key []byte) {
	if !p.hasKeys {
		p.hasKeys = true
		for emission := range p.values.Len() {
			p.keys.Push(call.key(p.record(emission)))
		}
	}
	p.keys.Push(key)
}

func (p *emitted) pushTimestamp(call *call, timestamp int64) {
	if !p.hasTimestamps {
		p.hasTimestamps = true
		p.timestamps = slices.Grow(p.timestamps, len(call.batch.Slots))
		for emission := range p.values.Len() {
			p.timestamps = append(p.timestamps, call.timestamp(p.record(emission)))
		}
	}
	p.timestamps = append(p.timestamps, timestamp)
}
