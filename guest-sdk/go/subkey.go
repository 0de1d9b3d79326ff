package sdk

// Sub-keys of a map as bytes whose order is that of the values. The host orders entries by these bytes and knows nothing else of
// them. Integers are big-endian with the sign bit inverted, text and bytes are as they are; in a struct, which is a tuple, all
// but the last field have a fixed length, so none needs an end.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
	"unsafe"
)

// A subKey writes and reads sub-keys of one type. Its size is 0 if it is not fixed.
type subKey struct {
	goType reflect.Type
	size   int
	append func(to []byte, value unsafe.Pointer) []byte
	decode func(from []byte, value unsafe.Pointer) error
	// fields are those of a struct.
	fields []subKeyField
}

type subKeyField struct {
	offset uintptr
	subKey *subKey
}

// subKeyOf is how sub-keys of a type are written.
func subKeyOf(goType reflect.Type) (*subKey, error) {
	made := &subKey{goType: goType}
	kind := goType.Kind()
	switch {
	case made.integer(kind):
	case kind == reflect.Bool:
		made.bool()
	case kind == reflect.String:
		made.append = func(to []byte, value unsafe.Pointer) []byte { return append(to, *(*string)(value)...) }
		made.decode = func(from []byte, value unsafe.Pointer) error {
			if !utf8.Valid(from) {
				return errNoText
			}
			*(*string)(value) = string(from)
			return nil
		}
	case kind == reflect.Slice && goType.Elem().Kind() == reflect.Uint8:
		made.append = func(to []byte, value unsafe.Pointer) []byte { return append(to, *(*[]byte)(value)...) }
		made.decode = func(from []byte, value unsafe.Pointer) error {
			*(*[]byte)(value) = append([]byte(nil), from...)
			return nil
		}
	case kind == reflect.Struct && goType.NumField() > 0:
		return made, made.tuple()
	default:
		return nil, fmt.Errorf("%v cannot be the sub-key of a map: these are integers, bool, text, bytes, and structs of them", goType)
	}
	return made, nil
}

func (s *subKey) integer(kind reflect.Kind) bool {
	switch kind {
	case reflect.Uint64, reflect.Uint, reflect.Int64, reflect.Int:
		fixed(s, 8, func(value *uint64) uint64 { return *value }, func(value *uint64, bits uint64) { *value = bits })
	case reflect.Uint32, reflect.Int32:
		fixed(s, 4, func(value *uint32) uint64 { return uint64(*value) }, func(value *uint32, bits uint64) { *value = uint32(bits) })
	case reflect.Uint16, reflect.Int16:
		fixed(s, 2, func(value *uint16) uint64 { return uint64(*value) }, func(value *uint16, bits uint64) { *value = uint16(bits) })
	case reflect.Uint8, reflect.Int8:
		fixed(s, 1, func(value *uint8) uint64 { return uint64(*value) }, func(value *uint8, bits uint64) { *value = uint8(bits) })
	default:
		return false
	}
	return true
}

// fixed writes the bits of an integer with the highest byte first.
func fixed[T any](s *subKey, size int, load func(*T) uint64, store func(*T, uint64)) {
	s.size = size
	sign := uint64(0)
	if s.goType.Kind() >= reflect.Int && s.goType.Kind() <= reflect.Int64 {
		sign = 1 << (8*size - 1)
	}
	s.append = func(to []byte, value unsafe.Pointer) []byte {
		var all [8]byte
		binary.BigEndian.PutUint64(all[:], load((*T)(value))^sign)
		return append(to, all[8-size:]...)
	}
	s.decode = func(from []byte, value unsafe.Pointer) error {
		if len(from) != size {
			return wrongLength(from, size)
		}
		var all [8]byte
		copy(all[8-size:], from)
		store((*T)(value), binary.BigEndian.Uint64(all[:])^sign)
		return nil
	}
}

func (s *subKey) bool() {
	s.size = 1
	s.append = func(to []byte, value unsafe.Pointer) []byte {
		if *(*bool)(value) {
			return append(to, 1)
		}
		return append(to, 0)
	}
	s.decode = func(from []byte, value unsafe.Pointer) error {
		if len(from) != 1 || from[0] > 1 {
			return errors.New("a sub-key is neither true nor false")
		}
		*(*bool)(value) = from[0] == 1
		return nil
	}
}

func (s *subKey) tuple() error {
	last := s.goType.NumField() - 1
	for index := range last + 1 {
		field := s.goType.Field(index)
		part, err := subKeyOf(field.Type)
		if err != nil {
			return err
		}
		if index < last && part.size == 0 {
			return fmt.Errorf("the field %s of %v has no fixed length, so it can only come last in a sub-key", field.Name, s.goType)
		}
		s.size += part.size
		if part.size == 0 {
			s.size = 0
		}
		s.fields = append(s.fields, subKeyField{field.Offset, part})
	}
	s.append = func(to []byte, value unsafe.Pointer) []byte {
		for _, field := range s.fields {
			to = field.subKey.append(to, unsafe.Add(value, field.offset))
		}
		return to
	}
	s.decode = func(from []byte, value unsafe.Pointer) error {
		for index, field := range s.fields {
			part := from
			if index < last {
				if len(from) < field.subKey.size {
					return wrongLength(from, field.subKey.size)
				}
				part = from[:field.subKey.size]
			}
			if err := field.subKey.decode(part, unsafe.Add(value, field.offset)); err != nil {
				return err
			}
			from = from[len(part):]
		}
		return nil
	}
	return nil
}

func wrongLength(from []byte, expected int) error {
	return fmt.Errorf("a sub-key, or what is left of one, has %d bytes instead of %d", len(from), expected)
}
