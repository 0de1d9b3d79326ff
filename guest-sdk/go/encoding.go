package sdk

// How a typed state becomes bytes: the same in the SDKs of all languages, so that a plugin in one takes over what one in another
// has kept. Numbers, truth values, text and struct{} are written as postcard does, []byte as it is, all else as JSON.
//
// A type is looked at once, when its operator is registered. Values are named by pointers, so that nothing is boxed for a record.

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"unicode/utf8"
	"unsafe"
)

// An encoding writes and reads values of one type. An encoded value that is read takes up all of the bytes.
//
//   - If isPlain, a value shares no memory with another one, nor with the bytes that it was read from.
//   - If it is of an integer of 64 bits, integer says which, and so how its bytes can be read and written without this.
type encoding struct {
	goType  reflect.Type
	isPlain bool
	integer integer
	append  func(to []byte, value unsafe.Pointer) ([]byte, error)
	decode  func(from []byte, value unsafe.Pointer) error
}

// integer says of what kind an integer of 64 bits is.
type integer uint8

const (
	noInteger integer = iota
	unsignedInteger
	signedInteger
)

var bytesType = reflect.TypeFor[[]byte]()

// encodingOf is the encoding of a type: its own one, or the one of this name.
func encodingOf(goType reflect.Type, name string) (*encoding, error) {
	made := &encoding{goType: goType}
	kind := goType.Kind()
	switch name {
	case "":
	case "json":
		made.json()
		return made, nil
	case "raw":
		if kind == reflect.String {
			made.rawText()
			return made, nil
		}
		if goType.ConvertibleTo(bytesType) && kind == reflect.Slice {
			made.raw()
			return made, nil
		}
		return nil, fmt.Errorf("the encoding `raw` is for text and bytes, not for %v", goType)
	default:
		return nil, fmt.Errorf("there is no encoding `%s`; take `json` or `raw`, or leave it out", name)
	}
	switch {
	case kind == reflect.Bool:
		made.bool()
	case made.unsigned(kind) || made.signed(kind) || made.float(kind):
	case kind == reflect.String:
		made.text()
	case kind == reflect.Slice && goType.Elem().Kind() == reflect.Uint8:
		made.raw()
	case kind == reflect.Struct && goType.NumField() == 0:
		made.unit()
	default:
		if err := jsonCan(goType); err != nil {
			return nil, err
		}
		made.json()
	}
	return made, nil
}

// jsonCan refuses types that no JSON is made of, before there is a value.
func jsonCan(goType reflect.Type) error {
	_, err := json.Marshal(reflect.New(goType).Interface())
	var unsupported *json.UnsupportedTypeError
	if errors.As(err, &unsupported) {
		return fmt.Errorf("a state cannot keep %v", goType)
	}
	return nil
}

func (e *encoding) unit() {
	e.isPlain = true
	e.append = func(to []byte, _ unsafe.Pointer) ([]byte, error) { return to, nil }
	e.decode = func(from []byte, _ unsafe.Pointer) error { return atEnd(from) }
}

func (e *encoding) bool() {
	e.isPlain = true
	e.append = func(to []byte, value unsafe.Pointer) ([]byte, error) {
		if *(*bool)(value) {
			return append(to, 1), nil
		}
		return append(to, 0), nil
	}
	e.decode = func(from []byte, value unsafe.Pointer) error {
		if len(from) == 0 || from[0] > 1 {
			return errors.New("it is neither true nor false")
		}
		*(*bool)(value) = from[0] == 1
		return atEnd(from[1:])
	}
}

func (e *encoding) float(kind reflect.Kind) bool {
	switch kind {
	case reflect.Float64:
		e.append = func(to []byte, value unsafe.Pointer) ([]byte, error) {
			return binary.LittleEndian.AppendUint64(to, math.Float64bits(*(*float64)(value))), nil
		}
		e.decode = func(from []byte, value unsafe.Pointer) error {
			if len(from) < 8 {
				return errTooShort
			}
			*(*float64)(value) = math.Float64frombits(binary.LittleEndian.Uint64(from))
			return atEnd(from[8:])
		}
	case reflect.Float32:
		e.append = func(to []byte, value unsafe.Pointer) ([]byte, error) {
			return binary.LittleEndian.AppendUint32(to, math.Float32bits(*(*float32)(value))), nil
		}
		e.decode = func(from []byte, value unsafe.Pointer) error {
			if len(from) < 4 {
				return errTooShort
			}
			*(*float32)(value) = math.Float32frombits(binary.LittleEndian.Uint32(from))
			return atEnd(from[4:])
		}
	default:
		return false
	}
	e.isPlain = true
	return true
}

func (e *encoding) unsigned(kind reflect.Kind) bool {
	switch kind {
	case reflect.Uint64, reflect.Uint: // Both have 8 bytes, here and wherever operators are tested.
		unsigned[uint64](e)
		e.integer = unsignedInteger
	case reflect.Uint32:
		unsigned[uint32](e)
	case reflect.Uint16:
		unsigned[uint16](e)
	case reflect.Uint8:
		oneByte(e)
	default:
		return false
	}
	return true
}

func unsigned[T uint16 | uint32 | uint64](e *encoding) {
	e.isPlain = true
	e.append = func(to []byte, value unsafe.Pointer) ([]byte, error) {
		return binary.AppendUvarint(to, uint64(*(*T)(value))), nil
	}
	e.decode = func(from []byte, value unsafe.Pointer) error {
		number, length := binary.Uvarint(from)
		if length <= 0 || uint64(T(number)) != number {
			return errNoVarint
		}
		*(*T)(value) = T(number)
		return atEnd(from[length:])
	}
}

func (e *encoding) signed(kind reflect.Kind) bool {
	switch kind {
	case reflect.Int64, reflect.Int:
		signed[int64](e)
		e.integer = signedInteger
	case reflect.Int32:
		signed[int32](e)
	case reflect.Int16:
		signed[int16](e)
	case reflect.Int8:
		oneByte(e)
	default:
		return false
	}
	return true
}

func signed[T int16 | int32 | int64](e *encoding) {
	e.isPlain = true
	e.append = func(to []byte, value unsafe.Pointer) ([]byte, error) {
		return binary.AppendVarint(to, int64(*(*T)(value))), nil
	}
	e.decode = func(from []byte, value unsafe.Pointer) error {
		number, length := binary.Varint(from)
		if length <= 0 || int64(T(number)) != number {
			return errNoVarint
		}
		*(*T)(value) = T(number)
		return atEnd(from[length:])
	}
}

// oneByte is for integers of one byte, which postcard does not shorten.
func oneByte(e *encoding) {
	e.isPlain = true
	e.append = func(to []byte, value unsafe.Pointer) ([]byte, error) { return append(to, *(*byte)(value)), nil }
	e.decode = func(from []byte, value unsafe.Pointer) error {
		if len(from) == 0 {
			return errTooShort
		}
		*(*byte)(value) = from[0]
		return atEnd(from[1:])
	}
}

func (e *encoding) text() {
	e.isPlain = true
	e.append = func(to []byte, value unsafe.Pointer) ([]byte, error) {
		text := *(*string)(value)
		if !utf8.ValidString(text) {
			return to, errNoText
		}
		return append(binary.AppendUvarint(to, uint64(len(text))), text...), nil
	}
	e.decode = func(from []byte, value unsafe.Pointer) error {
		length, start := binary.Uvarint(from)
		if start <= 0 {
			return errNoVarint
		}
		if from = from[start:]; uint64(len(from)) < length {
			return errTooShort
		}
		if !utf8.Valid(from[:length]) {
			return errNoText
		}
		*(*string)(value) = string(from[:length])
		return atEnd(from[length:])
	}
}

func (e *encoding) rawText() {
	e.isPlain = true
	e.append = func(to []byte, value unsafe.Pointer) ([]byte, error) { return append(to, *(*string)(value)...), nil }
	e.decode = func(from []byte, value unsafe.Pointer) error {
		*(*string)(value) = string(from)
		return nil
	}
}

func (e *encoding) raw() {
	e.append = func(to []byte, value unsafe.Pointer) ([]byte, error) { return append(to, *(*[]byte)(value)...), nil }
	e.decode = func(from []byte, value unsafe.Pointer) error {
		*(*[]byte)(value) = from[:len(from):len(from)]
		return nil
	}
}

func (e *encoding) json() {
	e.append = func(to []byte, value unsafe.Pointer) ([]byte, error) {
		return appendJSON(to, reflect.NewAt(e.goType, value).Interface())
	}
	e.decode = func(from []byte, value unsafe.Pointer) error {
		return readJSON(from, reflect.NewAt(e.goType, value).Interface())
	}
}

// readJSON reads a text that is one value. A number of no type, as in an `any`, stays exact: it is a json.Number.
func readJSON(text []byte, into any) error {
	if !utf8.Valid(text) {
		return errNoText
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if rest := bytes.TrimSpace(text[decoder.InputOffset():]); len(rest) > 0 {
		return atEnd(rest)
	}
	return nil
}

// appendJSON appends compact JSON text in which `<` stays `<`, as other languages write it.
func appendJSON(to []byte, value any) ([]byte, error) {
	buffer := bytes.NewBuffer(to)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return to, err
	}
	// The encoder ends its lines.
	return buffer.Bytes()[:buffer.Len()-1], nil
}

var (
	errTooShort = errors.New("there are too few bytes")
	errNoVarint = errors.New("it is not an integer of this size")
	errNoText   = errors.New("it is not UTF-8")
)

func atEnd(rest []byte) error {
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes are left over", len(rest))
	}
	return nil
}
