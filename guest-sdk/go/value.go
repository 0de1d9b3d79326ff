package sdk

import (
	"fmt"
	"reflect"
	"unsafe"

	"floodmark.dev/sdk/internal/contract"
)

// A Value keeps one T for each key.
//
// It is always the value for the key of the record that is being processed: there is no way to name another key. Bytes in the host
// that do not decode as a T fail the batch. A []byte is a view that is valid until the value is set again, or Process returns, and
// must not be changed.
//
//   - cells has one cell for each key of the call. A T that shares memory lies in texts as bytes, and is decoded again for each
//     read: changes have no effect until it is set.
type Value[T any] struct {
	state
	encoding *encoding
	cells    []cell[T]
	texts    [][]byte
	written  contract.ValueWrites
}

type cell[T any] struct {
	value T
	about about
}

// about is what is known about a cell. If it isHere, the cell has the value, or the zero T if there is none.
type about uint8

const (
	isKnown about = 1 << iota
	isThere
	isChanged
	isHere
)

// Get is the value, or the zero T if there is none.
func (v *Value[T]) Get() T {
	// The usual case without another call, which would cost as much as the case itself. The same in Set.
	if call := v.call; call != nil && uint(call.slot) < uint(len(v.cells)) {
		if cell := &v.cells[call.slot]; cell.about&isHere != 0 {
			return cell.value
		}
	}
	value, _ := v.Lookup()
	return value
}

// Lookup is the value, if there is one.
func (v *Value[T]) Lookup() (T, bool) {
	cell := v.known()
	if v.encoding.isPlain || cell.about&isThere == 0 {
		return cell.value, cell.about&isThere != 0
	}
	var value T
	v.decode(v.texts[v.call.slot], &value)
	return value, true
}

// Has says whether there is a value.
func (v *Value[T]) Has() bool { return v.known().about&isThere != 0 }

// Set sets the value.
func (v *Value[T]) Set(value T) {
	if call := v.call; call != nil && uint(call.slot) < uint(len(v.cells)) && v.encoding.isPlain {
		cell := &v.cells[call.slot]
		cell.value, cell.about = value, isKnown|isThere|isChanged|isHere
		return
	}
	v.set(value)
}

// Clear removes the value; the host forgets the key in this state.
func (v *Value[T]) Clear() {
	cell := v.known()
	if cell.about&isThere == 0 {
		return
	}
	var none T
	cell.value = none
	cell.about &^= isThere
	cell.about |= isChanged
}

func (v *Value[T]) cell() *cell[T] {
	if v.call == nil || uint(v.call.slot) >= uint(len(v.cells)) {
		v.refuseOutside()
	}
	return &v.cells[v.call.slot]
}

// known is the cell, of which it is known what there is.
func (v *Value[T]) known() *cell[T] {
	cell := v.cell()
	if cell.about&isKnown == 0 {
		v.load(cell)
	}
	return cell
}

// load looks at what came with the call.
func (v *Value[T]) load(cell *cell[T]) {
	slot := v.call.slot
	text, isIn := v.call.states[v.index].Get(slot)
	cell.about = isKnown
	if isIn {
		cell.about |= isThere
	}
	switch {
	case !v.encoding.isPlain:
		v.texts[slot] = text
	case isIn:
		v.decode(text, &cell.value)
		fallthrough
	default:
		cell.about |= isHere
	}
}

func (v *Value[T]) decode(text []byte, value *T) {
	if err := v.encoding.decode(text, unsafe.Pointer(value)); err != nil {
		v.refuseUndecodable(err)
	}
}

// set writes a value that shares memory. It reuses the buffer of an earlier set of this call, but never the host's text.
func (v *Value[T]) set(value T) {
	cell := v.cell()
	slot := v.call.slot
	var to []byte
	if cell.about&isChanged != 0 {
		to = v.texts[slot][:0]
	}
	text, err := v.encoding.append(to, unsafe.Pointer(&value))
	if err != nil {
		panic(failure{fmt.Errorf("cannot encode state `%s`: %w", v.declared.Name, err)})
	}
	v.texts[slot] = text
	cell.about = isKnown | isThere | isChanged
}

func (v *Value[T]) bind(to state) (err error) {
	v.state = to
	v.encoding, err = encodingOf(reflect.TypeFor[T](), to.declared.encoding)
	return err
}

func (v *Value[T]) parts() (contract.StateKind, reflect.Type, reflect.Type) {
	return contract.KindValue, reflect.TypeFor[T](), nil
}

func (v *Value[T]) begin(keys int) {
	if cap(v.cells) < keys {
		v.cells = make([]cell[T], keys)
	} else {
		v.cells = v.cells[:keys]
	}
	if v.encoding.integer != noInteger {
		loadIntegers(v.integers(), &v.call.states[v.index], v.encoding.integer == signedInteger)
		return
	}
	clear(v.cells)
	if !v.encoding.isPlain {
		v.texts = make([][]byte, keys)
	}
}

// integers are the cells of a T that is an integer of 64 bits.
func (v *Value[T]) integers() []cell[uint64] {
	return unsafe.Slice((*cell[uint64])(unsafe.Pointer(unsafe.SliceData(v.cells))), len(v.cells))
}

func (v *Value[T]) finish(output *contract.Output) error {
	written := &v.written
	written.State = uint16(v.index)
	written.Reset()
	if v.encoding.integer != noInteger {
		writeIntegers(written, v.integers(), v.encoding.integer == signedInteger)
	} else if err := v.write(written); err != nil {
		return fmt.Errorf("cannot encode state `%s`: %w", v.declared.Name, err)
	}
	if written.Values.Len() > 0 {
		written.Finish(len(v.cells))
		output.Values = append(output.Values, *written)
	}
	return nil
}

// write appends what changed.
func (v *Value[T]) write(written *contract.ValueWrites) error {
	for slot := range v.cells {
		cell := &v.cells[slot]
		if cell.about&isChanged == 0 {
			continue
		}
		is := cell.about&isThere != 0
		if is && v.encoding.isPlain {
			text, err := v.encoding.append(written.Values.Bytes, unsafe.Pointer(&cell.value))
			if err != nil {
				return err
			}
			written.Values.Bytes = text
		} else if is {
			written.Values.Bytes = append(written.Values.Bytes, v.texts[slot]...)
		}
		written.AddSlot(slot)
		written.Values.EndItem(is)
	}
	return nil
}
