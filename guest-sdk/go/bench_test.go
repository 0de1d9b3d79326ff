package sdk_test

// Where the time of a call goes: these make the profile that plugins are built with (README.md, "Speed").

import (
	"fmt"
	"testing"

	"floodmark.dev/sdk"
	"floodmark.dev/sdk/internal/contract"
)

const benchRecords = 1024

type countsWords struct{ count sdk.Value[uint64] }

func (c *countsWords) Process(_ sdk.Record, out *sdk.Output) error {
	count := c.count.Get() + 1
	c.count.Set(count)
	out.EmitDecimal(count)
	return nil
}

type keepsLast struct{ last sdk.Value[string] }

func (k *keepsLast) Process(record sdk.Record, out *sdk.Output) error {
	text, err := record.Text()
	if err != nil {
		return err
	}
	out.EmitString(k.last.Get())
	k.last.Set(text)
	return nil
}

type letsSomeThrough struct{ seen sdk.Value[struct{}] }

func (l *letsSomeThrough) Process(record sdk.Record, out *sdk.Output) error {
	if l.seen.Has() {
		out.Emit(record.Value())
	}
	l.seen.Set(struct{}{})
	return nil
}

type rekeys struct{}

func (*rekeys) Process(record sdk.Record, out *sdk.Output) error {
	timestamp, _ := record.Timestamp()
	out.Key(record.Value()[:8]).At(timestamp + 1).Emit(record.Key())
	return nil
}

// benchCall is what a call hands over: values of 100 bytes, and of each second key a state.
func benchCall(state string) (*contract.Batch, []contract.OptionalColumn) {
	batch, current := &contract.Batch{}, make([]contract.OptionalColumn, 1)
	for record := range benchRecords {
		batch.Keys.Push(fmt.Appendf(nil, "%08d", record))
		batch.Slots = append(batch.Slots, uint32(record))
		batch.Values.Push(fmt.Appendf(nil, "%0100d", record))
		batch.Timestamps = append(batch.Timestamps, int64(record))
		current[0].Push([]byte(state), record%2 == 0)
	}
	return batch, current
}

func BenchmarkProcess(b *testing.B) {
	for _, one := range []struct {
		name, state string
		operator    sdk.Operator
	}{
		{"counts", "\xac\x02", &countsWords{}},
		{"keeps", "\x04last", &keepsLast{}},
		{"lets-through", "", &letsSomeThrough{}},
		{"rekeys", "", &rekeys{}},
	} {
		b.Run(one.name, func(b *testing.B) {
			plugin, err := contract.Make(one.operator, nil)
			if err != nil {
				b.Fatal(err)
			}
			if err := plugin.Open(nil); err != nil {
				b.Fatal(err)
			}
			batch, states := benchCall(one.state)
			states = states[:len(plugin.Describe().States)]
			for b.Loop() {
				if _, err := plugin.Process(0, batch, states); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRecords, "ns/record")
		})
	}
}
