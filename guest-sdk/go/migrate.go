package sdk

import (
	"fmt"
	"reflect"
	"unsafe"

	"floodmark.dev/sdk/internal/contract"
)

// A Migrator is an operator that migrates state of its older versions. Migrations is called on an operator that is not opened.
type Migrator interface {
	Migrations() []Migration
}

// A Migration rewrites the values of a state, value by value, while the job runs. Make one with [Migrate].
type Migration struct {
	state    string
	from     uint32
	old, new reflect.Type
	rewrite  func(old, new *encoding, from, to []byte) ([]byte, error)
}

// Migrate says how a state's values of the version `from` become those of the version that its tag says: values, items of a list, or
// values of a map. Old is the type that the older plugin gave them.
func Migrate[Old, New any](state string, from uint32, upgrade func(Old) (New, error)) Migration {
	rewrite := func(old, new *encoding, from, to []byte) ([]byte, error) {
		var before Old
		if err := old.decode(from, unsafe.Pointer(&before)); err != nil {
			return to, err
		}
		after, err := upgrade(before)
		if err != nil {
			return to, err
		}
		return new.append(to, unsafe.Pointer(&after))
	}
	return Migration{state, from, reflect.TypeFor[Old](), reflect.TypeFor[New](), rewrite}
}

// takeMigrations gives each state its migrations.
func takeMigrations(declarations []declaration, migrations []Migration) error {
	for _, migration := range migrations {
		var of *declaration
		for index := range declarations {
			if declarations[index].Name == migration.state {
				of = &declarations[index]
			}
		}
		if of == nil {
			return fmt.Errorf("there is a migration of the state `%s`, and no such state", migration.state)
		}
		if migration.new != of.values.goType {
			return fmt.Errorf("a migration of the state `%s` makes %v, and the state keeps %v", of.Name, migration.new, of.values.goType)
		}
		if of.migrations == nil {
			of.migrations = make(map[uint32]Migration)
		}
		of.migrations[migration.from] = migration
	}
	return nil
}

// migrate rewrites values one for one.
func (d *declaration) migrate(from uint32, values *contract.Column) (contract.Column, error) {
	migration, isThere := d.migrations[from]
	if !isThere {
		return contract.Column{}, fmt.Errorf(
			"state `%s` is declared in version %d and says nothing of version %d; add `sdk.Migrate(\"%s\", %d, function)` to the operator's "+
				"Migrations, or run the plugin that wrote it", d.Name, d.Version, from, d.Name, from)
	}
	old, err := encodingOf(migration.old, d.encoding)
	if err != nil {
		return contract.Column{}, err
	}
	return each(values, func(text, to []byte) ([]byte, error) {
		return migration.rewrite(old, d.values, text, to)
	})
}

// each makes an item of each item.
func each(items *contract.Column, write func(item, to []byte) ([]byte, error)) (written contract.Column, err error) {
	for index := range items.Len() {
		written.Bytes, err = write(items.Get(index), written.Bytes)
		if err != nil {
			return contract.Column{}, fmt.Errorf("item %d: %w", index, err)
		}
		written.EndItem()
	}
	return written, nil
}
