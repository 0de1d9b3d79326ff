package sdk

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"unsafe"

	"floodmark.dev/sdk/internal/contract"
)

// A Map keeps, for each key, values of type V by sub-keys of type K, in the order of the sub-keys. K is an integer, bool, text, bytes,
// or a struct of such fields, all but the last of a fixed length.
//
// It is the map of the key of the record that is being processed. What a call has read or written is kept until its end, so an entry
// costs the host one look-up per call however often it is used. What the host keeps and does not decode as a V fails the batch. A []byte
// is a view that is valid until the entry is set again, or Process returns, and must not be changed.
//
//   - keys has one item for each key of the call; entries and subKeys have what this call knows of all of them.
type Map[K, V any] struct {
	state
	encoding *encoding
	subKey   *subKey
	keys     []mapOfKey
	entries  []entry[V]
	subKeys  []byte
	asked    contract.Column
	slots    []uint32
	written  contract.MapWrites
	// sought is the sub-key that was named last, and value a value, where they need no memory of their own.
	sought K
	value  V
}

// mapOfKey is what this call knows of one key's map. Once isCleared, the host's entries do not count.
type mapOfKey struct {
	isCleared bool
	// sorted are indexes of entries, in the order of their sub-keys.
	sorted []int32
}

// An entry's sub-key is subKeys[start:end]. As in a Value, a V that shares memory lies in text.
type entry[V any] struct {
	start, end int
	about      about
	value      V
	text       []byte
}

// Get is the value of a sub-key, or the zero V if there is none.
func (m *Map[K, V]) Get(subKey K) V {
	value, _ := m.Lookup(subKey)
	return value
}

// Lookup is the value of a sub-key, if there is one.
func (m *Map[K, V]) Lookup(subKey K) (V, bool) {
	return m.valueOf(m.entry(subKey))
}

// Has says whether there is a value.
func (m *Map[K, V]) Has(subKey K) bool { return m.entry(subKey).about&isThere != 0 }

// Set sets a value. The previous value is not read.
func (m *Map[K, V]) Set(subKey K, value V) {
	entry := m.own(subKey)
	if m.encoding.isPlain {
		entry.value = value
	} else {
		var to []byte
		if entry.about&isChanged != 0 {
			to = entry.text[:0]
		}
		m.value = value
		text, err := m.encoding.append(to, unsafe.Pointer(&m.value))
		if err != nil {
			panic(failure{fmt.Errorf("cannot encode state `%s`: %w", m.declared.Name, err)})
		}
		entry.text = text
	}
	entry.about = isKnown | isThere | isChanged
}

// Delete removes a value, if there is one. The previous value is not read.
func (m *Map[K, V]) Delete(subKey K) {
	entry := m.own(subKey)
	if entry.about&(isKnown|isThere) == isKnown {
		return
	}
	var none V
	entry.value, entry.text = none, nil
	entry.about = isKnown | isChanged
}

// Clear removes all entries.
func (m *Map[K, V]) Clear() {
	key := m.key()
	key.isCleared = true
	key.sorted = key.sorted[:0]
}

// Prefetch gets several entries from the host at once, so that Get and similar functions find them here.
func (m *Map[K, V]) Prefetch(subKeys ...K) {
	key := m.key()
	if key.isCleared {
		return
	}
	m.asked.Reset()
	var known [][]byte
	for _, subKey := range subKeys {
		text := m.encode(subKey)
		if _, isKnown := m.find(key, text); !isKnown && !slices.ContainsFunc(known, func(other []byte) bool { return bytes.Equal(other, text) }) {
			known = append(known, bytes.Clone(text))
		}
	}
	for len(known) > 0 {
		m.asked.Reset()
		m.slots = m.slots[:0]
		for _, text := range known {
			m.asked.Push(text)
			m.slots = append(m.slots, uint32(m.call.slot))
		}
		answer := contract.Current.MapGet(uint16(m.index), m.slots, &m.asked)
		for index := range answer.Len() {
			text, isThere := answer.Get(index)
			m.takeIn(key, known[index], text, isThere)
		}
		known = known[answer.Len():]
	}
}

// entry is what this call knows of a sub-key; asks the host first if that is nothing.
func (m *Map[K, V]) entry(subKey K) *entry[V] {
	key := m.key()
	text := m.encode(subKey)
	if at, isKnown := m.find(key, text); isKnown {
		return &m.entries[key.sorted[at]]
	}
	if key.isCleared {
		return m.takeIn(key, text, nil, false)
	}
	m.asked.Reset()
	m.asked.Push(text)
	m.slots = append(m.slots[:0], uint32(m.call.slot))
	answer := contract.Current.MapGet(uint16(m.index), m.slots, &m.asked)
	value, isThere := answer.Get(0)
	return m.takeIn(key, m.asked.Get(0), value, isThere)
}

// own is what this call knows of a sub-key, without a question.
func (m *Map[K, V]) own(subKey K) *entry[V] {
	key := m.key()
	text := m.encode(subKey)
	if at, isKnown := m.find(key, text); isKnown {
		return &m.entries[key.sorted[at]]
	}
	return m.insert(key, text)
}

// takeIn keeps what the host answered.
func (m *Map[K, V]) takeIn(key *mapOfKey, subKey, text []byte, is bool) *entry[V] {
	entry := m.insert(key, subKey)
	entry.about = isKnown
	if !is {
		return entry
	}
	entry.about = isKnown | isThere
	if m.encoding.isPlain {
		m.decode(text, &entry.value)
	} else {
		entry.text = bytes.Clone(text)
	}
	return entry
}

func (m *Map[K, V]) insert(key *mapOfKey, subKey []byte) *entry[V] {
	at, _ := m.find(key, subKey)
	start := len(m.subKeys)
	m.subKeys = append(m.subKeys, subKey...)
	key.sorted = slices.Insert(key.sorted, at, int32(len(m.entries)))
	m.entries = append(m.entries, entry[V]{start: start, end: len(m.subKeys)})
	return &m.entries[len(m.entries)-1]
}

// find is where a sub-key is, or would be, in the order of a key's.
func (m *Map[K, V]) find(key *mapOfKey, subKey []byte) (int, bool) {
	return sort.Find(len(key.sorted), func(at int) int {
		return bytes.Compare(subKey, m.subKeyOf(key.sorted[at]))
	})
}

func (m *Map[K, V]) subKeyOf(index int32) []byte {
	entry := &m.entries[index]
	return m.subKeys[entry.start:entry.end]
}

// encode writes a sub-key behind all others, where it stays until the next one is written.
func (m *Map[K, V]) encode(subKey K) []byte {
	m.sought = subKey
	start := len(m.subKeys)
	grown := m.subKey.append(m.subKeys, unsafe.Pointer(&m.sought))
	m.subKeys = grown[:start]
	return grown[start:]
}

func (m *Map[K, V]) valueOf(entry *entry[V]) (V, bool) {
	if m.encoding.isPlain || entry.about&isThere == 0 {
		return entry.value, entry.about&isThere != 0
	}
	var value V
	m.decode(entry.text, &value)
	return value, true
}

func (m *Map[K, V]) decode(text []byte, value *V) {
	if err := m.encoding.decode(text, unsafe.Pointer(value)); err != nil {
		m.refuseUndecodable(err)
	}
}

func (m *Map[K, V]) key() *mapOfKey {
	if m.call == nil || uint(m.call.slot) >= uint(len(m.keys)) {
		m.refuseOutside()
	}
	return &m.keys[m.call.slot]
}

func (m *Map[K, V]) bind(to state) (err error) {
	m.state = to
	if m.subKey, err = subKeyOf(reflect.TypeFor[K]()); err != nil {
		return err
	}
	m.encoding, err = encodingOf(reflect.TypeFor[V](), to.declared.encoding)
	return err
}

func (m *Map[K, V]) parts() (contract.StateKind, reflect.Type, reflect.Type) {
	return contract.KindMap, reflect.TypeFor[V](), reflect.TypeFor[K]()
}

func (m *Map[K, V]) begin(keys int) {
	m.keys = resized(m.keys, keys)
	for index := range m.keys {
		m.keys[index] = mapOfKey{sorted: m.keys[index].sorted[:0]}
	}
	clear(m.entries)
	m.entries, m.subKeys = contract.Emptied(m.entries), contract.Emptied(m.subKeys)
}

func (m *Map[K, V]) finish(output *contract.Output) error {
	written := &m.written
	written.State = uint16(m.index)
	written.Cleared, written.Slots = written.Cleared[:0], written.Slots[:0]
	written.SubKeys.Reset()
	written.Values.Reset()
	for slot := range m.keys {
		key := &m.keys[slot]
		if key.isCleared {
			written.Cleared = append(written.Cleared, uint32(slot))
		}
		for _, index := range key.sorted {
			if m.entries[index].about&isChanged == 0 {
				continue
			}
			if err := m.write(&m.entries[index]); err != nil {
				return fmt.Errorf("cannot encode state `%s`: %w", m.declared.Name, err)
			}
			written.SubKeys.Push(m.subKeyOf(index))
			written.Slots = append(written.Slots, uint32(slot))
		}
	}
	if len(written.Cleared) > 0 || len(written.Slots) > 0 {
		output.Maps = append(output.Maps, *written)
	}
	return nil
}

// write appends an entry's value to what leaves.
func (m *Map[K, V]) write(entry *entry[V]) (err error) {
	values := &m.written.Values
	is := entry.about&isThere != 0
	if is && m.encoding.isPlain {
		if values.Bytes, err = m.encoding.append(values.Bytes, unsafe.Pointer(&entry.value)); err != nil {
			return err
		}
	} else if is {
		values.Bytes = append(values.Bytes, entry.text...)
	}
	values.EndItem(is)
	return nil
}
