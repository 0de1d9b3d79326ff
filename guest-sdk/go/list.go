package sdk

import (
	"fmt"
	"iter"
	"reflect"
	"unsafe"

	"floodmark.dev/sdk/internal/contract"
)

const (
	// lengthsAsked is for how many lists the length is asked at once.
	lengthsAsked = 64
	// firstItems is how many items the first page has, and moreItems those that come next.
	firstItems, moreItems = 64, 4096
	// clearedSlot is that of an item that was appended and then cleared.
	clearedSlot = ^uint32(0)
)

// A List keeps many T for each key, in the order in which they were appended.
//
// It is the list of the key of the record that is being processed. What a call appends leaves with the call, so appending costs the
// same however long a list is. Reading costs calls of the host: All one for many items, Len one for many keys. What the host keeps
// and does not decode as a T fails the batch. A []byte is a view that is valid until Process returns, and must not be changed.
//
//   - keys has one item for each key of the call.
//   - Each item of slots and values was appended in this call, in order.
type List[T any] struct {
	state
	encoding *encoding
	keys     []listOfKey
	slots    []uint32
	values   contract.Column
	cleared  []uint32
	item     T
}

type listOfKey struct {
	isCleared bool
	hasLen    bool
	// hostLen is how many items the host has, if hasLen.
	hostLen uint64
	// appended are indexes of what this call appended.
	appended []uint32
}

// Append appends items.
func (l *List[T]) Append(items ...T) {
	key := l.key()
	for _, item := range items {
		l.item = item
		bytes, err := l.encoding.append(l.values.Bytes, unsafe.Pointer(&l.item))
		if err != nil {
			panic(failure{fmt.Errorf("cannot encode an item of state `%s`: %w", l.declared.Name, err)})
		}
		l.values.Bytes = bytes
		l.values.EndItem()
		key.appended = append(key.appended, uint32(len(l.slots)))
		l.slots = append(l.slots, uint32(l.call.slot))
	}
}

// All are the items, the oldest first. Each is decoded when it is reached. Items that are appended meanwhile are included.
func (l *List[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		l.key()
		slot := l.call.slot
		page, start, isOver, pageLen := contract.Column{}, uint64(0), false, uint32(firstItems)
		for !isOver && !l.keys[slot].isCleared {
			items := contract.Current.ListRead(uint16(l.index), uint32(slot), start, pageLen)
			page, start, isOver, pageLen = items.Values, items.Next, !items.HasNext, moreItems
			for index := range page.Len() {
				if l.keys[slot].isCleared {
					break
				}
				if !yield(l.decode(page.Get(index))) {
					return
				}
			}
		}
		for own := 0; own < len(l.keys[slot].appended); own++ {
			if !yield(l.decode(l.values.Get(int(l.keys[slot].appended[own])))) {
				return
			}
		}
	}
}

// Slice are all items, the oldest first.
func (l *List[T]) Slice() []T {
	var items []T
	for item := range l.All() {
		items = append(items, item)
	}
	return items
}

// Len is the number of items. The host counts them, so asking costs by the length of the list; IsEmpty does not.
func (l *List[T]) Len() int {
	key := l.key()
	if !key.isCleared && !key.hasLen {
		l.askLengths()
	}
	if key.isCleared {
		return len(key.appended)
	}
	return int(key.hostLen) + len(key.appended)
}

// IsEmpty says whether there is no item.
func (l *List[T]) IsEmpty() bool {
	key := l.key()
	switch {
	case len(key.appended) > 0:
		return false
	case key.isCleared:
		return true
	case key.hasLen:
		return key.hostLen == 0
	}
	items := contract.Current.ListRead(uint16(l.index), uint32(l.call.slot), 0, 1)
	return items.Values.Len() == 0
}

// Clear removes all items.
func (l *List[T]) Clear() {
	key := l.key()
	key.isCleared = true
	for _, index := range key.appended {
		l.slots[index] = clearedSlot
	}
	key.appended = key.appended[:0]
}

// Replace replaces all items with these.
func (l *List[T]) Replace(items ...T) {
	l.Clear()
	l.Append(items...)
}

// askLengths asks for this list's length, and at the same time for those of the keys whose records come next.
func (l *List[T]) askLengths() {
	asked := make([]uint32, 0, lengthsAsked)
	for slot := l.call.slot; slot < len(l.keys) && len(asked) < lengthsAsked; slot++ {
		if !l.keys[slot].hasLen {
			asked = append(asked, uint32(slot))
		}
	}
	for index, length := range contract.Current.ListLen(uint16(l.index), asked) {
		key := &l.keys[asked[index]]
		key.hostLen, key.hasLen = length, true
	}
}

func (l *List[T]) key() *listOfKey {
	if l.call == nil || uint(l.call.slot) >= uint(len(l.keys)) {
		l.refuseOutside()
	}
	return &l.keys[l.call.slot]
}

func (l *List[T]) decode(text []byte) T {
	var item T
	if err := l.encoding.decode(text, unsafe.Pointer(&item)); err != nil {
		l.refuseUndecodable(err)
	}
	return item
}

func (l *List[T]) bind(to state) (err error) {
	l.state = to
	l.encoding, err = encodingOf(reflect.TypeFor[T](), to.declared.encoding)
	return err
}

func (l *List[T]) parts() (contract.StateKind, reflect.Type, reflect.Type) {
	return contract.KindList, reflect.TypeFor[T](), nil
}

func (l *List[T]) begin(keys int) {
	l.keys = resized(l.keys, keys)
	for index := range l.keys {
		l.keys[index] = listOfKey{appended: l.keys[index].appended[:0]}
	}
	l.slots = l.slots[:0]
	l.values.Reset()
}

func (l *List[T]) finish(output *contract.Output) error {
	l.cleared = l.cleared[:0]
	for slot := range l.keys {
		if l.keys[slot].isCleared {
			l.cleared = append(l.cleared, uint32(slot))
		}
	}
	if len(l.cleared) > 0 {
		l.dropCleared()
	}
	if len(l.cleared) > 0 || len(l.slots) > 0 {
		output.Lists = append(output.Lists, contract.ListWrites{
			State: uint16(l.index), Cleared: l.cleared, Slots: l.slots, Values: l.values,
		})
	}
	return nil
}

// dropCleared moves what is left together.
func (l *List[T]) dropCleared() {
	kept, end := 0, uint32(0)
	start := uint32(0)
	for index, slot := range l.slots {
		from, to := start, l.values.Ends[index]
		start = to
		if slot == clearedSlot {
			continue
		}
		end += uint32(copy(l.values.Bytes[end:], l.values.Bytes[from:to]))
		l.slots[kept], l.values.Ends[kept] = slot, end
		kept++
	}
	l.slots, l.values.Ends, l.values.Bytes = l.slots[:kept], l.values.Ends[:kept], l.values.Bytes[:end]
}

// resized has this many items and keeps the memory of those that were there.
func resized[T any](items []T, length int) []T {
	if cap(items) >= length {
		return items[:length]
	}
	return append(items[:cap(items)], make([]T, length-cap(items))...)
}
