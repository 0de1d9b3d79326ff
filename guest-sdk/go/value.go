package sdk

import (
	"fmt"
	"reflect"
	"unsafe"

	"floodmark.dev/sdk/internal/contract"
)

// A Value keeps one T for each key.
//
// Everything it does is about the key of the record that is being processed: there is no way to name another. What the host keeps
// and does not decode as a T fails the batch. A []byte is a view that is valid until the value is set again, or Process returns, and
// must not be changed.
//
//   - cells has one cell for each key of the call. A T that shares memory lies in texts as bytes, and is decoded anew for each who
//     asks: what is done to it before it is set does not count.
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

// about is what is known of a cell.
type about uint8

const (
	isKnown about = 1 << iota
	isThere
	isChanged
)

// Get is the value, or the zero T if there is none.
func (v *Value[T]) Get() T {
	value, _ := v.Lookup()
	return value
}

// Lookup is the value, if there is one.
func (v *Value[T]) Lookup() (T, bool) {
	cell := v.cell()
	if cell.about&isKnown == 0 {
		v.load(cell)
	}
	if v.encoding.isPlain || cell.about&isThere == 0 {
		return cell.value, cell.about&isThere != 0
	}
	var value T
	v.decode(v.texts[v.call.slot], &value)
	return value, true
}

// Has says whether there is a value.
func (v *Value[T]) Has() bool {
	cell := v.cell()
	if cell.about&isKnown == 0 {
		v.load(cell)
	}
	return cell.about&isThere != 0
}

// Set sets the value.
func (v *Value[T]) Set(value T) {
	cell := v.cell()
	if v.encoding.isPlain {
		cell.value = value
	} else {
		shared := value // Its own variable, so that a plain value needs no memory.
		v.set(&shared)
	}
	cell.about = isKnown | isThere | isChanged
}

// Clear removes the value; the host forgets the key in this state.
func (v *Value[T]) Clear() {
	cell := v.cell()
	if cell.about&isKnown == 0 {
		v.load(cell)
	}
	if cell.about&isThere == 0 {
		return
	}
	var none T
	cell.value = none
	cell.about = isKnown | isChanged
}

func (v *Value[T]) cell() *cell[T] {
	if v.call == nil || uint(v.call.slot) >= uint(len(v.cells)) {
		v.refuseOutside()
	}
	return &v.cells[v.call.slot]
}

// load looks at what came with the call.
func (v *Value[T]) load(cell *cell[T]) {
	slot := v.call.slot
	cell.about = isKnown
	text, hasText := v.call.states[v.index].Get(slot)
	if !hasText {
		return
	}
	cell.about = isKnown | isThere
	if v.encoding.isPlain {
		v.decode(text, &cell.value)
	} else {
		v.texts[slot] = text
	}
}

func (v *Value[T]) decode(text []byte, value *T) {
	if err := v.encoding.decode(text, unsafe.Pointer(value)); err != nil {
		v.refuseUndecodable(err)
	}
}

// set writes a value that shares memory. Its own memory is only used again if nobody else's text lies there.
func (v *Value[T]) set(value *T) {
	slot := v.call.slot
	var to []byte
	if v.cells[slot].about&isChanged != 0 {
		to = v.texts[slot][:0]
	}
	text, err := v.encoding.append(to, unsafe.Pointer(value))
	if err != nil {
		panic(failure{fmt.Errorf("cannot encode state `%s`: %w", v.declared.Name, err)})
	}
	v.texts[slot] = text
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
		clear(v.cells)
	}
	if !v.encoding.isPlain {
		v.texts = make([][]byte, keys)
	}
}

func (v *Value[T]) finish(output *contract.Output) error {
	written := &v.written
	written.State = uint16(v.index)
	written.Slots = written.Slots[:0]
	written.Values.Reset()
	for slot := range v.cells {
		cell := &v.cells[slot]
		if cell.about&isChanged == 0 {
			continue
		}
		is := cell.about&isThere != 0
		if is && v.encoding.isPlain {
			text, err := v.encoding.append(written.Values.Bytes, unsafe.Pointer(&cell.value))
			if err != nil {
				return fmt.Errorf("cannot encode state `%s`: %w", v.declared.Name, err)
			}
			written.Values.Bytes = text
		} else if is {
			written.Values.Bytes = append(written.Values.Bytes, v.texts[slot]...)
		}
		written.Slots = append(written.Slots, uint32(slot))
		written.Values.EndItem(is)
	}
	if len(written.Slots) > 0 {
		output.Values = append(output.Values, *written)
	}
	return nil
}
