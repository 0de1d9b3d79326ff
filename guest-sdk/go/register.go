package sdk

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"runtime/debug"
	"strings"

	"floodmark.dev/sdk/internal/contract"
)

// registered is the operator of the component.
var registered contract.Plugin

// Register makes a plugin of an operator: a pointer to a struct. It is called once, by a function init, since main never runs.
//
// Each instance starts with the values of the struct. The plugin's name is the last part of its module's path.
//
// It panics if the struct is not a valid operator.
func Register(operator Operator, options ...Option) {
	if registered != nil {
		panic("a plugin has one operator, and two were registered")
	}
	made, err := newPlugin(operator, options)
	if err != nil {
		panic(fmt.Sprintf("%T cannot be registered: %v", operator, err))
	}
	registered = made
}

// An Option sets a property of a plugin.
type Option func(*contract.Description)

// Name is the name of the plugin: 1 to 64 characters of `a-z`, `0-9` and `-`.
func Name(name string) Option {
	return func(description *contract.Description) { description.Name = name }
}

// Version is the version of the plugin that is shown to people. Without this option it is 0.0.0.
func Version(version string) Option {
	return func(description *contract.Description) { description.Version = version }
}

func init() {
	contract.Make = func(operator any, options []any) (contract.Plugin, error) {
		real, isOperator := operator.(Operator)
		if !isOperator {
			return nil, fmt.Errorf("%T is not an operator: it has no method Process(sdk.Record, *sdk.Output) error", operator)
		}
		return newPlugin(real, nil)
	}
}

func newPlugin(operator Operator, options []Option) (*plugin, error) {
	at := reflect.ValueOf(operator)
	if at.Kind() != reflect.Pointer || at.IsNil() || at.Elem().Kind() != reflect.Struct {
		return nil, errors.New("it is not a pointer to a struct")
	}
	made := &plugin{initial: at.Elem()}
	made.description = contract.Description{
		Name: moduleName(), Version: "0.0.0", Inputs: []string{"in"}, Outputs: []string{"out"},
	}
	if ports, hasPorts := operator.(InputPorts); hasPorts {
		made.description.Inputs = ports.Inputs()
	}
	if ports, hasPorts := operator.(OutputPorts); hasPorts {
		made.description.Outputs = ports.Outputs()
	}
	for _, option := range options {
		option(&made.description)
	}
	if err := checkDescription(&made.description); err != nil {
		return nil, err
	}
	for index, input := range made.description.Inputs {
		unread := Columns(0)
		if columns, hasColumns := operator.(UnreadColumns); hasColumns {
			unread = columns.Unread(input)
		}
		made.unread = append(made.unread, contract.Unread{
			Input: uint16(index), Values: unread&RecordValues != 0, Timestamps: unread&RecordTimestamps != 0,
		})
	}
	declared, err := declarations(at.Elem().Type())
	if err != nil {
		return nil, err
	}
	if migrator, isMigrator := operator.(Migrator); isMigrator {
		if err := takeMigrations(declared, migrator.Migrations()); err != nil {
			return nil, err
		}
	}
	made.declarations = declared
	for index := range declared {
		made.description.States = append(made.description.States, declared[index].StateDeclaration)
	}
	return made, nil
}

func checkDescription(description *contract.Description) error {
	if err := checkName("the plugin", description.Name); err != nil {
		return err
	}
	if err := checkPorts("an input", description.Inputs); err != nil {
		return err
	}
	return checkPorts("an output", description.Outputs)
}

func checkPorts(what string, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("it has not %s", what)
	}
	for index, name := range names {
		if err := checkName(what, name); err != nil {
			return err
		}
		for _, other := range names[:index] {
			if other == name {
				return fmt.Errorf("it has twice %s called `%s`", what, name)
			}
		}
	}
	return nil
}

// moduleName is the last part of the module's path, in the letters that a name has.
func moduleName() string {
	built, isKnown := debug.ReadBuildInfo()
	if !isKnown || built.Main.Path == "" {
		return "operator"
	}
	last := path.Base(built.Main.Path)
	if isVersion := len(last) > 1 && last[0] == 'v' && strings.Trim(last[1:], "0123456789") == ""; isVersion {
		last = path.Base(path.Dir(built.Main.Path))
	}
	name := []byte(strings.ToLower(last))
	for index, char := range name {
		if !(char >= 'a' && char <= 'z' || char >= '0' && char <= '9') {
			name[index] = '-'
		}
	}
	return string(name[:min(len(name), nameBytesMax)])
}
