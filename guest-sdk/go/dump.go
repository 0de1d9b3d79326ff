package sdk

// Values and sub-keys as JSON text, for tools that show or make state: numbers, text and truth values as themselves, null for struct{},
// bytes as text where they are some and as {"hex": ".."} where not. No operator that runs pays for it.

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"unicode/utf8"

	"floodmark.dev/sdk/internal/contract"
)

func (d *declaration) toJSON(part contract.Part, values *contract.Column) (contract.Column, error) {
	if part == contract.PartSubKey {
		if d.subKeys == nil {
			return contract.Column{}, fmt.Errorf("state `%s` has no sub-keys", d.Name)
		}
		return each(values, d.subKeys.toJSON)
	}
	return each(values, d.values.toJSON)
}

func (d *declaration) fromJSON(part contract.Part, texts *contract.Column) (contract.Column, error) {
	if part == contract.PartSubKey {
		if d.subKeys == nil {
			return contract.Column{}, fmt.Errorf("state `%s` has no sub-keys", d.Name)
		}
		return each(texts, d.subKeys.fromJSON)
	}
	return each(texts, d.values.fromJSON)
}

func (e *encoding) toJSON(text, to []byte) ([]byte, error) {
	value := reflect.New(e.goType)
	if err := e.decode(text, value.UnsafePointer()); err != nil {
		return to, err
	}
	return appendDump(to, value.Elem(), e.isBytes())
}

func (e *encoding) fromJSON(text, to []byte) ([]byte, error) {
	value := reflect.New(e.goType)
	if err := readDump(text, value, e.isBytes()); err != nil {
		return to, err
	}
	return e.append(to, value.UnsafePointer())
}

// isBytes says whether an encoded value is its own bytes.
func (e *encoding) isBytes() bool {
	probe, err := e.append(nil, reflect.New(e.goType).UnsafePointer())
	kind := e.goType.Kind()
	return err == nil && len(probe) == 0 && (kind == reflect.String || kind == reflect.Slice)
}

func (s *subKey) toJSON(text, to []byte) ([]byte, error) {
	value := reflect.New(s.goType)
	if err := s.decode(text, value.UnsafePointer()); err != nil {
		return to, err
	}
	return s.appendDump(to, value.Elem())
}

func (s *subKey) appendDump(to []byte, value reflect.Value) ([]byte, error) {
	if s.fields == nil {
		return appendDump(to, value, value.Kind() == reflect.Slice)
	}
	to = append(to, '[')
	for index, field := range s.fields {
		if index > 0 {
			to = append(to, ',')
		}
		var err error
		if to, err = field.subKey.appendDump(to, value.Field(index)); err != nil {
			return to, err
		}
	}
	return append(to, ']'), nil
}

func (s *subKey) fromJSON(text, to []byte) ([]byte, error) {
	if s.fields == nil {
		value := reflect.New(s.goType)
		if err := readDump(text, value, s.goType.Kind() == reflect.Slice); err != nil {
			return to, err
		}
		return s.append(to, value.UnsafePointer()), nil
	}
	var parts []json.RawMessage
	if err := readJSON(text, &parts); err != nil || len(parts) != len(s.fields) {
		return to, fmt.Errorf("`%s` is not an array of %d", readable(text), len(s.fields))
	}
	for index, part := range parts {
		var err error
		if to, err = s.fields[index].subKey.fromJSON(part, to); err != nil {
			return to, err
		}
	}
	return to, nil
}

// appendDump appends the JSON of a value; bytes are text, or hex.
func appendDump(to []byte, value reflect.Value, isBytes bool) ([]byte, error) {
	switch {
	case isBytes && value.Kind() == reflect.Slice:
		return appendBytes(to, value.Bytes())
	case isBytes:
		return appendBytes(to, []byte(value.String()))
	case value.Kind() == reflect.Struct && value.NumField() == 0:
		return append(to, "null"...), nil
	case value.CanFloat() && (math.IsNaN(value.Float()) || math.IsInf(value.Float(), 0)):
		return append(to, "null"...), nil
	}
	return appendJSON(to, plain(value).Interface())
}

// plain is a number, text or truth value without its own way to be JSON, which other languages would not know.
func plain(value reflect.Value) reflect.Value {
	switch kind := value.Kind(); {
	case kind == reflect.Bool:
		return reflect.ValueOf(value.Bool())
	case value.CanInt():
		return reflect.ValueOf(value.Int())
	case value.CanUint():
		return reflect.ValueOf(value.Uint())
	case kind == reflect.String:
		return reflect.ValueOf(value.String())
	}
	// A sub-key's field may be unexported, but those are of the kinds above.
	return value
}

func appendBytes(to, bytes []byte) ([]byte, error) {
	if utf8.Valid(bytes) {
		return appendJSON(to, string(bytes))
	}
	return appendJSON(to, map[string]string{"hex": hex.EncodeToString(bytes)})
}

// readDump reads what appendDump wrote.
func readDump(text []byte, into reflect.Value, isBytes bool) error {
	of := into.Elem()
	switch isNull := string(bytes.TrimSpace(text)) == "null"; {
	case isBytes:
		return readBytes(text, of)
	case of.Kind() == reflect.Struct && of.NumField() == 0:
		if !isNull {
			return fmt.Errorf("`%s` is not null", readable(text))
		}
		return nil
	case isNull && isScalar(of.Kind()):
		return fmt.Errorf("null is not a valid %v", of.Type())
	case isScalar(of.Kind()):
		// By a type without a way of its own to be JSON.
		read := reflect.New(scalars[of.Kind()])
		if err := readJSON(text, read.Interface()); err != nil {
			return fmt.Errorf("`%s` is not a valid %v", readable(text), of.Type())
		}
		of.Set(read.Elem().Convert(of.Type()))
		return nil
	}
	return readJSON(text, into.Interface())
}

func readBytes(text []byte, of reflect.Value) error {
	var read any
	if err := readJSON(text, &read); err != nil {
		return err
	}
	switch read := read.(type) {
	case string:
		setBytes(of, []byte(read))
		return nil
	case map[string]any:
		digits, isText := read["hex"].(string)
		if raw, err := hex.DecodeString(digits); err == nil && isText && len(read) == 1 {
			setBytes(of, raw)
			return nil
		}
	}
	return errors.New("`" + readable(text) + "` is neither text nor {\"hex\": \"..\"}")
}

func setBytes(of reflect.Value, bytes []byte) {
	if of.Kind() == reflect.String {
		of.SetString(string(bytes))
	} else {
		of.SetBytes(bytes)
	}
}

func isScalar(kind reflect.Kind) bool { return scalars[kind] != nil }

// scalars are the types without names.
var scalars = map[reflect.Kind]reflect.Type{
	reflect.Bool: reflect.TypeFor[bool](), reflect.String: reflect.TypeFor[string](),
	reflect.Float32: reflect.TypeFor[float32](), reflect.Float64: reflect.TypeFor[float64](),
	reflect.Int: reflect.TypeFor[int](), reflect.Int8: reflect.TypeFor[int8](), reflect.Int16: reflect.TypeFor[int16](),
	reflect.Int32: reflect.TypeFor[int32](), reflect.Int64: reflect.TypeFor[int64](),
	reflect.Uint: reflect.TypeFor[uint](), reflect.Uint8: reflect.TypeFor[uint8](), reflect.Uint16: reflect.TypeFor[uint16](),
	reflect.Uint32: reflect.TypeFor[uint32](), reflect.Uint64: reflect.TypeFor[uint64](),
}
