package sdk

// Catches bytes that another language does not read, sub-keys that sort otherwise than their values, and what is not a value and passes for
// one. The vectors are those of all languages.

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"testing"
)

type vector struct {
	Encoding string
	Type     any
	Hex      *string
	JSON     *string
	Value    any
}

func vectors(t *testing.T) map[string][]vector {
	text, err := os.ReadFile("../encodings.json")
	if err != nil {
		t.Fatalf("the vectors of all languages are not there: %v", err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	read := map[string][]vector{}
	for _, name := range []string{"values", "refused", "sub-keys", "refused-sub-keys"} {
		var of []vector
		if err := json.Unmarshal(all[name], &of); err != nil || len(of) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		read[name] = of
	}
	return read
}

func named(t *testing.T, name string) *encoding {
	types := map[string]reflect.Type{
		"u64": reflect.TypeFor[uint64](), "i64": reflect.TypeFor[int64](), "bool": reflect.TypeFor[bool](),
		"f64": reflect.TypeFor[float64](), "text": reflect.TypeFor[string](), "unit": reflect.TypeFor[struct{}](),
		"raw": bytesType, "json": reflect.TypeFor[any](),
	}
	made, err := encodingOf(types[name], "")
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return made
}

func bytesOf(t *testing.T, digits string) []byte {
	made, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// same says whether two JSON texts are the same value; integers are compared as they are written.
func same(t *testing.T, one, other string) bool {
	var values [2]any
	for index, text := range []string{one, other} {
		if err := readJSON([]byte(text), &values[index]); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return one == other || reflect.DeepEqual(floats(values[0]), floats(values[1]))
}

func floats(value any) any {
	if number, isNumber := value.(json.Number); isNumber {
		if _, err := number.Int64(); err != nil {
			float, _ := number.Float64()
			return float
		}
		float, _ := number.Float64()
		if math.Abs(float) < 1<<53 {
			return float
		}
	}
	return value
}

// checkVector sends bytes to JSON and back.
func checkVector(t *testing.T, what string, vector vector, toJSON, fromJSON func([]byte, []byte) ([]byte, error)) {
	shown, err := toJSON(bytesOf(t, *vector.Hex), nil)
	if vector.JSON == nil {
		return
	}
	if err != nil || !same(t, string(shown), *vector.JSON) {
		t.Errorf("%s: %s is shown as %s (%v) instead of %s", what, *vector.Hex, shown, err, *vector.JSON)
	}
	written, err := fromJSON([]byte(*vector.JSON), nil)
	if *vector.JSON == "null" && vector.Encoding == "f64" {
		return
	}
	if err != nil || hex.EncodeToString(written) != *vector.Hex {
		t.Errorf("%s: %s is written as %x (%v) instead of %s", what, *vector.JSON, written, err, *vector.Hex)
	}
}

func TestValuesAreWrittenAsInAllLanguages(t *testing.T) {
	for _, vector := range vectors(t)["values"] {
		encoding := named(t, vector.Encoding)
		checkVector(t, vector.Encoding, vector, encoding.toJSON, encoding.fromJSON)
		value := reflect.New(encoding.goType)
		if err := encoding.decode(bytesOf(t, *vector.Hex), value.UnsafePointer()); err != nil {
			t.Errorf("%s: %s does not decode: %v", vector.Encoding, *vector.Hex, err)
		}
		again, err := encoding.append([]byte("before"), value.UnsafePointer())
		if err != nil || string(again) != "before"+string(bytesOf(t, *vector.Hex)) {
			t.Errorf("%s: %s comes back as %x (%v)", vector.Encoding, *vector.Hex, again, err)
		}
		isNumber := vector.Encoding == "u64" || vector.Encoding == "i64"
		if shown := fmt.Sprint(value.Elem().Interface()); isNumber && shown != vector.Value {
			t.Errorf("%s: %s is %s instead of %v", vector.Encoding, *vector.Hex, shown, vector.Value)
		}
	}
}

func TestWhatIsNoValueIsRefused(t *testing.T) {
	for _, vector := range vectors(t)["refused"] {
		encoding := named(t, vector.Encoding)
		if vector.Hex != nil {
			value := reflect.New(encoding.goType)
			if encoding.decode(bytesOf(t, *vector.Hex), value.UnsafePointer()) == nil {
				t.Errorf("%s: %s passes for %v", vector.Encoding, *vector.Hex, value.Elem())
			}
		} else if written, err := encoding.fromJSON([]byte(*vector.JSON), nil); err == nil {
			t.Errorf("%s: `%s` passes for %x", vector.Encoding, *vector.JSON, written)
		}
	}
}

func subKeyNamed(t *testing.T, name any) *subKey {
	types := map[string]reflect.Type{
		"u8": reflect.TypeFor[uint8](), "u16": reflect.TypeFor[uint16](), "u32": reflect.TypeFor[uint32](), "u64": reflect.TypeFor[uint64](),
		"i8": reflect.TypeFor[int8](), "i16": reflect.TypeFor[int16](), "i32": reflect.TypeFor[int32](), "i64": reflect.TypeFor[int64](),
		"bool": reflect.TypeFor[bool](), "text": reflect.TypeFor[string](), "bytes": bytesType,
	}
	var goType reflect.Type
	if names, isTuple := name.([]any); isTuple {
		var fields []reflect.StructField
		for index, name := range names {
			fields = append(fields, reflect.StructField{Name: fmt.Sprintf("F%d", index), Type: types[name.(string)]})
		}
		goType = reflect.StructOf(fields)
	} else {
		goType = types[name.(string)]
	}
	made, err := subKeyOf(goType)
	if err != nil {
		t.Fatalf("%v: %v", name, err)
	}
	return made
}

func TestSubKeysAreWrittenAsInAllLanguages(t *testing.T) {
	var before vector
	for _, vector := range vectors(t)["sub-keys"] {
		checkVector(t, fmt.Sprint(vector.Type), vector, subKeyNamed(t, vector.Type).toJSON, subKeyNamed(t, vector.Type).fromJSON)
		isSame := reflect.DeepEqual(before.Type, vector.Type)
		if isSame && bytes.Compare(bytesOf(t, *before.Hex), bytesOf(t, *vector.Hex)) >= 0 {
			t.Errorf("%v: %s is not behind %s", vector.Type, *vector.Hex, *before.Hex)
		}
		before = vector
	}
}

func TestWhatIsNoSubKeyIsRefused(t *testing.T) {
	for _, vector := range vectors(t)["refused-sub-keys"] {
		subKey := subKeyNamed(t, vector.Type)
		if vector.Hex != nil {
			value := reflect.New(subKey.goType)
			if subKey.decode(bytesOf(t, *vector.Hex), value.UnsafePointer()) == nil {
				t.Errorf("%v: %s passes for %v", vector.Type, *vector.Hex, value.Elem())
			}
		} else if written, err := subKey.fromJSON([]byte(*vector.JSON), nil); err == nil {
			t.Errorf("%v: `%s` passes for %x", vector.Type, *vector.JSON, written)
		}
	}
}

func TestTypesThatNoStateKeepsAreRefused(t *testing.T) {
	if _, err := encodingOf(reflect.TypeFor[func()](), ""); err == nil {
		t.Error("a function is kept")
	}
	if _, err := encodingOf(reflect.TypeFor[uint64](), "raw"); err == nil {
		t.Error("a number is kept as raw bytes")
	}
	for _, goType := range []reflect.Type{reflect.TypeFor[float64](), reflect.TypeFor[struct{}](), reflect.TypeFor[struct {
		text   string
		number int
	}]()} {
		if _, err := subKeyOf(goType); err == nil {
			t.Errorf("%v is a sub-key", goType)
		}
	}
}

func TestJSONIsWrittenAsOtherLanguagesWriteIt(t *testing.T) {
	written, err := named(t, "json").fromJSON([]byte(` { "a<b" : "&" } `), nil)
	if err != nil || string(written) != `{"a<b":"&"}` {
		t.Errorf("%s (%v)", written, err)
	}
}
