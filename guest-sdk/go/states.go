package sdk

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unsafe"

	"floodmark.dev/sdk/internal/contract"
)

// tagName is the key of the struct tag that says more about a state.
const tagName = "floodmark"

// A declared state, as the struct tag of its field says.
type declared struct {
	contract.StateDeclaration
	encoding string
	field    []int
}

// A declaration is a declared state and how its values are written.
type declaration struct {
	declared
	values     *encoding
	subKeys    *subKey // of a map
	migrations map[uint32]Migration
}

// A state is what all kinds of states share.
type state struct {
	call     *call
	declared *declared
	index    int
}

// A stateField is a field of one of the three types.
type stateField interface {
	// bind is called once for each operator, before anything else but parts.
	bind(to state) error
	parts() (kind contract.StateKind, value, subKey reflect.Type)
	// begin forgets all of the call before.
	begin(keys int)
	// finish appends what the call changes.
	finish(output *contract.Output) error
}

func (s *state) refuseOutside() {
	if s.call == nil {
		panic(failure{fmt.Errorf("a state was used that belongs to no operator; states are fields of the operator that is registered")})
	}
	panic(failure{fmt.Errorf("state `%s` was used outside of Process; states are those of the key of a record", s.declared.Name)})
}

func (s *state) refuseUndecodable(err error) {
	panic(failure{fmt.Errorf(
		"state `%s` of key `%s` does not decode as version %d of its type: %w; run the plugin that wrote it, raise `version` and "+
			"say how to migrate, or keep this state as it was and add another one for the new type",
		s.declared.Name, readable(s.call.batch.Keys.Get(s.call.slot)), s.declared.Version, err)})
}

// declarations are the states of an operator, in the order of its fields; those of embedded structs count.
func declarations(operator reflect.Type) (found []declaration, err error) {
	err = eachField(operator, nil, func(field reflect.StructField) error {
		made, err := declare(field, reflect.New(field.Type).Interface().(stateField))
		if err != nil {
			return fmt.Errorf("field %s: %w", field.Name, err)
		}
		for _, other := range found {
			if other.Name == made.Name {
				return fmt.Errorf("field %s: there are two states called `%s`", field.Name, made.Name)
			}
		}
		found = append(found, made)
		return nil
	})
	return found, err
}

func eachField(of reflect.Type, path []int, take func(reflect.StructField) error) error {
	for index := range of.NumField() {
		field := of.Field(index)
		field.Index = append(slices.Clone(path), index)
		_, isState := reflect.New(field.Type).Interface().(stateField)
		tag, hasTag := field.Tag.Lookup(tagName)
		var err error
		switch {
		case isState && field.Type.PkgPath() == reflect.TypeFor[state]().PkgPath():
			err = take(field)
		case hasTag:
			err = fmt.Errorf("field %s has the tag `%s` but is not a state; states are of the types sdk.Value, sdk.List and sdk.Map", field.Name, tag)
		case field.Anonymous && field.Type.Kind() == reflect.Struct:
			err = eachField(field.Type, field.Index, take)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func declare(field reflect.StructField, kept stateField) (made declaration, err error) {
	kind, value, subKeyType := kept.parts()
	made.Name, made.Kind, made.Version, made.field = kebab(field.Name), kind, 1, field.Index
	for index, word := range strings.Split(field.Tag.Get(tagName), ",") {
		if err := made.say(index, strings.TrimSpace(word)); err != nil {
			return made, err
		}
	}
	if err := checkName("a state", made.Name); err != nil {
		return made, err
	}
	if made.values, err = encodingOf(value, made.encoding); err != nil {
		return made, err
	}
	if subKeyType != nil {
		made.subKeys, err = subKeyOf(subKeyType)
	}
	return made, err
}

// say takes one word of a tag: the first is the name, all others are options.
func (d *declared) say(index int, word string) error {
	if index == 0 {
		if word != "" {
			d.Name = word
		}
		return nil
	}
	option, value, _ := strings.Cut(word, "=")
	switch option {
	case "ttl":
		ttl, err := duration(value)
		if err != nil || ttl < time.Millisecond {
			return fmt.Errorf("`ttl=%s` is not a time to live; write one such as `ttl=1h30m` or `ttl=7d`", value)
		}
		d.TTLMillis = uint64(ttl.Milliseconds())
	case "version":
		version, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return fmt.Errorf("`version=%s` is not a version; write a whole number such as `version=2`", value)
		}
		d.Version = uint32(version)
	case "encoding":
		d.encoding = value
	default:
		return fmt.Errorf("the tag of a state knows no `%s`; it is `floodmark:\"name,ttl=1h,version=1,encoding=json\"`, each part of it optional", word)
	}
	return nil
}

// duration is what package time reads, or a number of days.
func duration(text string) (time.Duration, error) {
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		number, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(number) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// stateFields are the states of an operator, whose struct is at `of`. Fields may be unexported: they are ours by their type.
func stateFields(of reflect.Value, declarations []declaration) []stateField {
	fields := make([]stateField, len(declarations))
	for index := range declarations {
		field := of.FieldByIndex(declarations[index].field)
		at := reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr()))
		fields[index] = at.Interface().(stateField)
	}
	return fields
}

const nameBytesMax = 64

func checkName(what, name string) error {
	isName := len(name) >= 1 && len(name) <= nameBytesMax
	for _, char := range []byte(name) {
		isName = isName && (char >= 'a' && char <= 'z' || char >= '0' && char <= '9' || char == '-')
	}
	if !isName {
		return fmt.Errorf("the name of %s, `%s`, is not 1 to %d characters of `a-z`, `0-9` and `-`", what, name, nameBytesMax)
	}
	return nil
}

// kebab is the name of a field as others write it: `LastSeen`, `last_seen` and `lastSeen` are `last-seen`, `HTTPErrors` is
// `http-errors`.
func kebab(name string) string {
	chars := []rune(name)
	var made strings.Builder
	for index, char := range chars {
		if char == '_' {
			made.WriteByte('-')
			continue
		}
		if unicode.IsUpper(char) && index > 0 && chars[index-1] != '_' {
			isWord := !unicode.IsUpper(chars[index-1]) || index+1 < len(chars) && unicode.IsLower(chars[index+1])
			if isWord {
				made.WriteByte('-')
			}
		}
		made.WriteRune(unicode.ToLower(char))
	}
	return made.String()
}
