package sdktest

import (
	"slices"
	"strings"

	"floodmark.dev/sdk/internal/contract"
)

// kept is what one state keeps, in the simplest way that is right.
type kept struct {
	contract.StateDeclaration
	task *Task
	keys map[string]*ofKey
}

type ofKey struct {
	// items are the value, or all items of a list. start is the position of the first one.
	items []item
	start uint64
	// entries are those of a map.
	entries map[string]item
}

// item is some bytes, and when they are over; 0 is never.
type item struct {
	bytes []byte
	end   uint64
}

func (k *kept) item(bytes []byte) item {
	made := item{bytes: slices.Clone(bytes)}
	if k.TTLMillis > 0 {
		made.end = k.task.now + k.TTLMillis
	}
	return made
}

func (k *kept) isOver(item item) bool { return item.end != 0 && k.task.now >= item.end }

// of is what there is for a key, without what is over.
func (k *kept) of(key string) *ofKey {
	if k.keys == nil {
		k.keys = map[string]*ofKey{}
	}
	of := k.keys[key]
	if of == nil {
		of = &ofKey{entries: map[string]item{}}
		k.keys[key] = of
	}
	for len(of.items) > 0 && k.isOver(of.items[0]) {
		of.items = of.items[1:]
		of.start++
	}
	for subKey, item := range of.entries {
		if k.isOver(item) {
			delete(of.entries, subKey)
		}
	}
	return of
}

func (k *kept) value(key string) ([]byte, bool) {
	of := k.of(key)
	if len(of.items) == 0 {
		return nil, false
	}
	return of.items[0].bytes, true
}

func (k *kept) setValue(key string, bytes []byte, isThere bool) {
	of := k.of(key)
	of.items = of.items[:0]
	if isThere {
		of.items = append(of.items, k.item(bytes))
	}
}

func (k *kept) clear(key string) { delete(k.keys, key) }

func (k *kept) push(key string, bytes []byte) {
	of := k.of(key)
	of.items = append(of.items, k.item(bytes))
}

func (k *kept) setEntry(key, subKey string, bytes []byte, isThere bool) {
	of := k.of(key)
	delete(of.entries, subKey)
	if isThere {
		of.entries[subKey] = k.item(bytes)
	}
}

// subKeys are those of a range, in order.
func (k *kept) subKeys(key string, sought contract.Range) []string {
	var found []string
	for subKey := range k.of(key).entries {
		if subKey >= string(sought.Start) && (sought.End == nil || subKey < string(sought.End)) {
			found = append(found, subKey)
		}
	}
	slices.Sort(found)
	if sought.Descending {
		slices.Reverse(found)
	}
	return found
}

// rewrite gives all values other bytes.
func (k *kept) rewrite(each func(*contract.Column) (contract.Column, error)) error {
	if _, err := each(&contract.Column{}); err != nil {
		return err
	}
	one := func(bytes []byte) ([]byte, error) {
		var values contract.Column
		values.Push(bytes)
		rewritten, err := each(&values)
		return rewritten.Bytes, err
	}
	for _, of := range k.keys {
		for index := range of.items {
			bytes, err := one(of.items[index].bytes)
			if err != nil {
				return err
			}
			of.items[index].bytes = bytes
		}
		for subKey, item := range of.entries {
			bytes, err := one(item.bytes)
			if err != nil {
				return err
			}
			item.bytes = bytes
			of.entries[subKey] = item
		}
	}
	return nil
}

func (k *kept) json(key string, show func(contract.Part, *contract.Column) (contract.Column, error)) (string, error) {
	of := k.of(key)
	var values, subKeys contract.Column
	for _, item := range of.items {
		values.Push(item.bytes)
	}
	for _, subKey := range k.subKeys(key, contract.Range{}) {
		subKeys.Push([]byte(subKey))
		values.Push(of.entries[subKey].bytes)
	}
	if values.Len() == 0 {
		return "", nil
	}
	shown, err := show(contract.PartValue, &values)
	if err != nil {
		return "", err
	}
	if k.Kind == contract.KindValue {
		return string(shown.Bytes), nil
	}
	parts := make([]string, shown.Len())
	for index := range parts {
		parts[index] = string(shown.Get(index))
	}
	if k.Kind == contract.KindMap {
		names, err := show(contract.PartSubKey, &subKeys)
		if err != nil {
			return "", err
		}
		for index := range parts {
			parts[index] = "[" + string(names.Get(index)) + "," + parts[index] + "]"
		}
	}
	return "[" + strings.Join(parts, ",") + "]", nil
}
