package sdk

// The entries of a map, in order: pages of the host with what the call has written laid over them.

import (
	"bytes"
	"iter"
	"sort"
	"unsafe"

	"floodmark.dev/sdk/internal/contract"
)

// firstEntries is how many entries the first page has, and moreEntries those that come next.
const firstEntries, moreEntries = 32, 4096

// All are the entries, in the order of their sub-keys. Entries may be set and removed meanwhile: changes ahead of the iteration are seen.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return m.scan(contract.Range{}, firstEntries)
}

// Backward are the entries from the highest sub-key down.
func (m *Map[K, V]) Backward() iter.Seq2[K, V] {
	return m.scan(contract.Range{Descending: true}, firstEntries)
}

// Range are the entries from one sub-key on and below another one, in the order of their sub-keys.
func (m *Map[K, V]) Range(from, below K) iter.Seq2[K, V] {
	return m.scan(contract.Range{Start: bytes.Clone(m.encode(from)), End: m.endAt(below)}, firstEntries)
}

// From are the entries from a sub-key on, in the order of their sub-keys.
func (m *Map[K, V]) From(from K) iter.Seq2[K, V] {
	return m.scan(contract.Range{Start: bytes.Clone(m.encode(from))}, firstEntries)
}

// Below are the entries below a sub-key, from the highest sub-key down.
func (m *Map[K, V]) Below(below K) iter.Seq2[K, V] {
	return m.scan(contract.Range{End: m.endAt(below), Descending: true}, firstEntries)
}

// First is the entry with the lowest sub-key, if there is one.
func (m *Map[K, V]) First() (subKey K, value V, isThere bool) {
	for subKey, value := range m.scan(contract.Range{}, 1) {
		return subKey, value, true
	}
	return subKey, value, false
}

// Last is the entry with the highest sub-key, if there is one.
func (m *Map[K, V]) Last() (subKey K, value V, isThere bool) {
	for subKey, value := range m.scan(contract.Range{Descending: true}, 1) {
		return subKey, value, true
	}
	return subKey, value, false
}

// IsEmpty says whether there is no entry.
func (m *Map[K, V]) IsEmpty() bool {
	_, _, isThere := m.First()
	return !isThere
}

// endAt is never nil: that would be no end.
func (m *Map[K, V]) endAt(below K) []byte { return append([]byte{}, m.encode(below)...) }

func (m *Map[K, V]) scan(sought contract.Range, pageLen uint32) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		m.key()
		scan := scan[K, V]{m: m, slot: m.call.slot, rest: sought, own: sought, pageLen: pageLen, passed: make([]byte, 0, 32)}
		scan.isOver = sought.End != nil && bytes.Compare(sought.End, sought.Start) <= 0
		for {
			subKey, value, isThere := scan.next()
			if !isThere || !yield(subKey, value) {
				return
			}
		}
	}
}

// A scan stands between two entries of a map.
//
//   - rest is what the host has not been asked for yet; there is nothing more of it once isOver.
//   - own is what may still come of the call's own entries; passed has the bytes of the end where it moves on.
type scan[K, V any] struct {
	m         *Map[K, V]
	slot      int
	rest, own contract.Range
	isOver    bool
	pageLen   uint32
	page      contract.Entries
	at        int
	passed    []byte
}

// next is the next entry that is there.
func (s *scan[K, V]) next() (subKey K, value V, isThere bool) {
	for {
		own, hasOwn := s.ownNext()
		hasHost := s.fill()
		if !hasOwn && !hasHost {
			return subKey, value, false
		}
		order := -1
		switch {
		case !hasHost:
			order = 1
		case hasOwn:
			order = bytes.Compare(s.page.SubKeys.Get(s.at), s.m.subKeyOf(own))
			if s.own.Descending {
				order = -order
			}
		}
		if order < 0 {
			text := s.page.SubKeys.Get(s.at)
			s.pass(text)
			s.m.decode(s.page.Values.Get(s.at), &value)
			s.at++
			return s.subKey(text), value, true
		}
		// What this call knows is newer than what the host has.
		if order == 0 {
			s.at++
		}
		s.pass(s.m.subKeyOf(own))
		if value, isThere = s.m.valueOf(&s.m.entries[own]); isThere {
			return s.subKey(s.m.subKeyOf(own)), value, true
		}
	}
}

// ownNext is the next of the call's own entries. It is searched again each time, since there may be others by now.
func (s *scan[K, V]) ownNext() (int32, bool) {
	sorted := s.m.keys[s.slot].sorted
	bound := func(text []byte) int {
		return sort.Search(len(sorted), func(at int) bool { return bytes.Compare(s.m.subKeyOf(sorted[at]), text) >= 0 })
	}
	first, end := bound(s.own.Start), len(sorted)
	if s.own.End != nil {
		end = bound(s.own.End)
	}
	switch {
	case first >= end:
		return 0, false
	case s.own.Descending:
		return sorted[end-1], true
	default:
		return sorted[first], true
	}
}

// pass leaves a sub-key behind.
func (s *scan[K, V]) pass(subKey []byte) {
	s.passed = append(s.passed[:0], subKey...)
	if s.own.Descending {
		s.own.End = s.passed
	} else {
		s.passed = append(s.passed, 0)
		s.own.Start = s.passed
	}
}

// fill gets the next page if the last one is used up. Whether the host has an entry.
func (s *scan[K, V]) fill() bool {
	if s.m.keys[s.slot].isCleared {
		return false
	}
	for s.at == s.page.SubKeys.Len() {
		if s.isOver {
			return false
		}
		s.page = contract.Current.MapScan(uint16(s.m.index), uint32(s.slot), s.rest, s.pageLen)
		s.at, s.pageLen, s.isOver = 0, moreEntries, !s.page.More
		if last := s.page.SubKeys.Len() - 1; last >= 0 {
			if subKey := s.page.SubKeys.Get(last); s.rest.Descending {
				s.rest.End = subKey
			} else {
				s.rest.Start = after(subKey)
			}
		}
	}
	return true
}

func (s *scan[K, V]) subKey(text []byte) (subKey K) {
	if err := s.m.subKey.decode(text, unsafe.Pointer(&subKey)); err != nil {
		s.m.refuseUndecodable(err)
	}
	return subKey
}

// after is what comes right after these bytes.
func after(subKey []byte) []byte {
	return append(append(make([]byte, 0, len(subKey)+1), subKey...), 0)
}
