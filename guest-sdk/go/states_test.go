package sdk_test

// Catches reads that do not see what the same call wrote, what is lost or doubled between calls, and pages that overlap.

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"floodmark.dev/sdk"
	. "floodmark.dev/sdk/sdktest"
)

// everything has a state of each kind, does what records say, and emits all that it knows.
type everything struct {
	text   sdk.Value[string]
	tags   sdk.Value[[]string]
	raw    sdk.Value[[]byte]
	list   sdk.List[uint64]
	counts sdk.Map[int64, uint64]
	names  sdk.Map[string, []byte]
}

func (e *everything) Process(record sdk.Record, out *sdk.Output) error {
	var what string
	var number int64
	if _, err := fmt.Sscan(string(record.Value()), &what, &number); err != nil {
		return err
	}
	switch what {
	case "set":
		e.text.Set(fmt.Sprint(number))
		e.raw.Set([]byte{byte(number), 255})
	case "clear":
		e.text.Clear()
		e.raw.Clear()
		e.tags.Clear()
	case "tag":
		tags := e.tags.Get()
		tags = append(tags, fmt.Sprint(number))
		e.tags.Set(tags)
		tags[0] = "changed after it was set"
	case "append":
		e.list.Append(uint64(number), uint64(number)+1)
	case "replace":
		e.list.Replace(uint64(number))
	case "empty":
		e.list.Clear()
		e.counts.Clear()
	case "count":
		e.counts.Set(number, e.counts.Get(number)+1)
		e.names.Set(fmt.Sprint(number), []byte{byte(number)})
	case "delete":
		e.counts.Delete(number)
		e.names.Delete(fmt.Sprint(number))
	case "prefetch":
		e.counts.Prefetch(number, number+1, number+2, number+3, number+1)
	case "thin":
		for subKey := range e.counts.All() {
			if subKey%2 == 0 {
				e.counts.Delete(subKey)
				e.counts.Set(subKey+1, 7)
			}
		}
	}
	out.EmitString(e.shown(number))
	return nil
}

func (e *everything) shown(number int64) string {
	var counts, backward, from, names []string
	for subKey, count := range e.counts.All() {
		counts = append(counts, fmt.Sprint(subKey, "=", count))
	}
	for subKey, count := range e.counts.Backward() {
		backward = append(backward, fmt.Sprint(subKey, "=", count))
	}
	slices.Reverse(backward)
	if !slices.Equal(counts, backward) {
		return fmt.Sprint("forth and back differ: ", counts, backward)
	}
	for subKey := range e.counts.Range(number, number+4) {
		from = append(from, fmt.Sprint(subKey))
	}
	for name, bytes := range e.names.All() {
		names = append(names, fmt.Sprint(name, bytes))
	}
	first, _, hasFirst := e.counts.First()
	last, _, hasLast := e.counts.Last()
	return fmt.Sprint(e.text.Has(), e.text.Get(), e.tags.Get(), e.raw.Get(), e.list.IsEmpty(), e.list.Len(), e.list.Slice(),
		counts, from, names, first, hasFirst, last, hasLast, e.counts.IsEmpty(), e.counts.Has(number))
}

// model is the same by plain maps.
type model struct {
	text   *string
	tags   []string
	raw    []byte
	list   []uint64
	counts map[int64]uint64
	names  map[string][]byte
}

func (m *model) process(what string, number int64) string {
	switch what {
	case "set":
		text := fmt.Sprint(number)
		m.text, m.raw = &text, []byte{byte(number), 255}
	case "clear":
		m.text, m.raw, m.tags = nil, nil, nil
	case "tag":
		m.tags = append(m.tags, fmt.Sprint(number))
	case "append":
		m.list = append(m.list, uint64(number), uint64(number)+1)
	case "replace":
		m.list = []uint64{uint64(number)}
	case "empty":
		m.list = nil
		clear(m.counts)
	case "count":
		m.counts[number]++
		m.names[fmt.Sprint(number)] = []byte{byte(number)}
	case "delete":
		delete(m.counts, number)
		delete(m.names, fmt.Sprint(number))
	case "thin":
		for _, subKey := range slices.Sorted(maps.Keys(m.counts)) {
			if subKey%2 == 0 {
				delete(m.counts, subKey)
				m.counts[subKey+1] = 7
			}
		}
	}
	return m.shown(number)
}

func (m *model) shown(number int64) string {
	var counts, from, names []string
	subKeys := slices.Sorted(maps.Keys(m.counts))
	for _, subKey := range subKeys {
		counts = append(counts, fmt.Sprint(subKey, "=", m.counts[subKey]))
		if subKey >= number && subKey < number+4 {
			from = append(from, fmt.Sprint(subKey))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.names)) {
		names = append(names, fmt.Sprint(name, m.names[name]))
	}
	first, last, text := int64(0), int64(0), ""
	if len(subKeys) > 0 {
		first, last = subKeys[0], subKeys[len(subKeys)-1]
	}
	if m.text != nil {
		text = *m.text
	}
	has := len(subKeys) > 0
	_, hasNumber := m.counts[number]
	return fmt.Sprint(m.text != nil, text, m.tags, m.raw, len(m.list) == 0, len(m.list), m.list, counts, from, names, first, has, last, has,
		!has, hasNumber)
}

func TestStatesAreWhatPlainMapsWouldBe(t *testing.T) {
	whats := []string{"set", "clear", "tag", "append", "append", "replace", "empty", "count", "count", "count", "count", "delete", "prefetch", "thin"}
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		task := New(t, &everything{})
		models := map[string]*model{}
		for range 30 {
			var records []Record
			var expected []string
			for range 1 + random.IntN(12) {
				key, what := string(rune('a'+random.IntN(3))), whats[random.IntN(len(whats))]
				number := random.Int64N(16) - 8
				if models[key] == nil {
					models[key] = &model{counts: map[int64]uint64{}, names: map[string][]byte{}}
				}
				records = append(records, R(key, fmt.Sprint(what, " ", number)))
				expected = append(expected, models[key].process(what, number))
			}
			for index, emitted := range task.Run(records...) {
				if emitted.Value != expected[index] {
					t.Fatalf("seed %d: %v of %v:\n%s instead of\n%s", seed, records[index], records, emitted.Value, expected[index])
				}
			}
			if random.IntN(3) == 0 {
				task.Kill()
			}
		}
	}
}

type forgetful struct {
	sdk.Value[struct{}] `floodmark:"seen,ttl=1h"`
	last                sdk.List[string] `floodmark:",ttl=2h,version=3"`
}

func (f *forgetful) Process(record sdk.Record, out *sdk.Output) error {
	f.last.Append(string(record.Value()))
	out.Emitf("%v %v", f.Has(), f.last.Slice())
	f.Set(struct{}{})
	return nil
}

func TestWhatIsOverIsNotHandedOut(t *testing.T) {
	task := New(t, &forgetful{})
	for _, step := range []string{"false [1]", "true [1 2]", "false [1 2 3]", "false [4]"} {
		emitted := task.Run(R("k", strings.Trim(step[len(step)-2:], "]")))
		if emitted[0].Value != step {
			t.Errorf("%s instead of %s", emitted[0].Value, step)
		}
		task.Pass(map[byte]time.Duration{'1': 59 * time.Minute, '2': time.Hour, '3': 2 * time.Hour}[step[len(step)-2]])
	}
}

type clicks struct{ All, Errors uint64 }

type before struct {
	clicks sdk.Value[uint64]
	names  sdk.Map[string, uint64]
}

func (b *before) Process(sdk.Record, *sdk.Output) error {
	b.clicks.Set(b.clicks.Get() + 1)
	b.names.Set("x", 1)
	return nil
}

type after struct {
	clicks sdk.Value[clicks]       `floodmark:",version=2"`
	names  sdk.Map[string, string] `floodmark:",version=2"`
}

func (a *after) Migrations() []sdk.Migration {
	return []sdk.Migration{
		sdk.Migrate("clicks", 1, func(all uint64) (clicks, error) { return clicks{All: all}, nil }),
		sdk.Migrate("names", 1, func(count uint64) (string, error) { return fmt.Sprint(count), nil }),
	}
}

func (a *after) Process(_ sdk.Record, out *sdk.Output) error {
	out.Emitf("%v %v", a.clicks.Get(), a.names.Get("x"))
	return nil
}

func TestANewVersionTakesOverWhatAnOlderOneKept(t *testing.T) {
	task := New(t, &before{})
	task.Run(R("k", ""), R("k", ""))
	upgraded := task.Upgrade(&after{})
	if emitted := upgraded.Run(R("k", "")); emitted[0].Value != "{2 0} 1" {
		t.Errorf("%v", emitted)
	}
	if text := upgraded.JSON("clicks", "k"); text != `{"All":2,"Errors":0}` {
		t.Error(text)
	}
	if text := upgraded.JSON("names", "k"); text != `[["x","1"]]` {
		t.Error(text)
	}
}
