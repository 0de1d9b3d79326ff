package sdk_test

// Catches emissions that name a wrong record, `all` that is said where it is not so or not said where it is, a call in fewer bytes that
// means something else than the plain one, and a column that is read although it is declared unread.

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"floodmark.dev/sdk"
	"floodmark.dev/sdk/internal/contract"
	. "floodmark.dev/sdk/sdktest"
)

// drawn does what the letters of a key say: emits by one of two ports, with a key or a time of its own or both, and writes states.
type drawn struct {
	text   sdk.Value[string]
	number sdk.Value[int64]
	unread sdk.Columns
}

func (d *drawn) Outputs() []string               { return []string{"one", "two"} }
func (d *drawn) Unread(input string) sdk.Columns { return d.unread }

func (d *drawn) Process(record sdk.Record, out *sdk.Output) error {
	for _, letter := range string(record.Key()) {
		port := out.To("one")
		if letter >= 'A' && letter <= 'Z' {
			port = out.To("two")
		}
		switch letter | ' ' {
		case 'e':
			port.EmitString("value")
		case 'd':
			port.EmitDecimal(1234567)
		case 'n':
			port.Emit(nil)
		case 'k':
			port.KeyString("other").EmitString("keyed")
		case 't':
			port.At(7).EmitString("timed")
		case 'b':
			port.KeyString("").At(8).Emit(nil)
		case 's':
			d.text.Set("text")
			d.number.Set(d.number.Get() - 100)
		case 'c':
			d.text.Clear()
			d.number.Clear()
		}
	}
	return nil
}

// shown is a record that left.
type shown struct {
	key, value string
	timestamp  int64
}

// expected is what the letters mean, port by port, and from which records.
func expected(batch *contract.Batch) (ports [2][]shown, from [2][]uint32) {
	for record, slot := range batch.Slots {
		key, timestamp := string(batch.Keys.Get(int(slot))), batch.Timestamps[record]
		for _, letter := range key {
			port := 0
			if letter >= 'A' && letter <= 'Z' {
				port = 1
			}
			made, isOne := map[rune]shown{
				'e': {key, "value", timestamp}, 'd': {key, "1234567", timestamp}, 'n': {key, "", timestamp},
				'k': {"other", "keyed", timestamp}, 't': {key, "timed", 7}, 'b': {"", "", 8},
			}[letter|' ']
			if isOne {
				ports[port] = append(ports[port], made)
				from[port] = append(from[port], uint32(record))
			}
		}
	}
	return ports, from
}

func readCompact(t *testing.T, output *contract.Output, batch *contract.Batch) (ports [2][]shown, from [2][]uint32) {
	for _, one := range output.Emissions {
		records := one.Records.Places(len(batch.Slots))
		everyOnce := reflect.DeepEqual(records, (&contract.Selection{IsAll: true}).Places(len(batch.Slots)))
		if one.Records.IsAll != everyOnce {
			t.Errorf("all: %v, of records %v", one.Records.IsAll, records)
		}
		if one.HasValues != (len(one.Values.Bytes) > 0) {
			t.Errorf("values: %v, of %d bytes", one.HasValues, len(one.Values.Bytes))
		}
		for index, record := range records {
			made := shown{string(batch.Keys.Get(int(batch.Slots[record]))), "", batch.Timestamps[record]}
			if one.HasKeys {
				made.key = string(one.Keys.Get(index))
			}
			if one.HasValues {
				made.value = string(one.Values.Get(index))
			}
			if one.HasTimestamps {
				made.timestamp = one.Timestamps[index]
			}
			ports[one.Output] = append(ports[one.Output], made)
		}
		from[one.Output] = append(from[one.Output], records...)
	}
	return ports, from
}

func readPlain(plain *contract.Plain, batch *contract.Batch) (ports [2][]shown) {
	for _, one := range plain.Emissions {
		keys := batch.Keys
		if one.IsFresh {
			keys = one.Keys
		}
		for index, slot := range one.Slots {
			made := shown{string(keys.Get(int(slot))), string(one.Values.Get(index)), one.Timestamps[index]}
			ports[one.Output] = append(ports[one.Output], made)
		}
	}
	return ports
}

// checkWrites compares what the two states get with what the letters of the keys say.
func checkWrites(t *testing.T, output *contract.Output, batch *contract.Batch) {
	var slots []uint32
	for slot := range batch.Keys.Len() {
		if strings.ContainsAny(string(batch.Keys.Get(slot)), "sScC") {
			slots = append(slots, uint32(slot))
		}
	}
	plain := output.Plain(batch)
	for index, writes := range output.Values {
		if writes.Slots.IsAll != (len(slots) == batch.Keys.Len()) || !reflect.DeepEqual(plain.Values[index].Slots, slots) {
			t.Errorf("all: %v, slots %v instead of %v", writes.Slots.IsAll, plain.Values[index].Slots, slots)
		}
		for at, slot := range slots {
			key := string(batch.Keys.Get(int(slot)))
			lastSet, lastClear := strings.LastIndexAny(key, "sS"), strings.LastIndexAny(key, "cC")
			written, isThere := writes.Values.Get(at)
			if isThere != (lastSet > lastClear) {
				t.Errorf("the state of %s is there: %v", key, isThere)
			}
			if number, _ := binary.Varint(written); writes.State == 1 && number != numberAfter(key, batch.Slots, slot) {
				t.Errorf("the number of %s is %d", key, number)
			}
		}
	}
	if isWritten := len(output.Values) > 0; isWritten != (len(slots) > 0) {
		t.Errorf("states are written: %v, slots %v", isWritten, slots)
	}
}

// numberAfter is what the letters make of -2, record for record.
func numberAfter(key string, slots []uint32, slot uint32) int64 {
	number := int64(-2)
	for _, of := range slots {
		for _, letter := range key {
			switch {
			case of == slot && letter|' ' == 's':
				number -= 100
			case of == slot && letter|' ' == 'c':
				number = 0
			}
		}
	}
	return number
}

// drawBatch has keys of these letters, some of them several times. Each key of a call is there once.
func drawBatch(random *rand.Rand, letters string) (*contract.Batch, []contract.OptionalColumn) {
	batch, states := &contract.Batch{}, make([]contract.OptionalColumn, 2)
	for range 1 + random.IntN(12) {
		var key []byte
		for range 1 + random.IntN(2) {
			key = append(key, letters[random.IntN(len(letters))])
		}
		slot := 0
		for slot < batch.Keys.Len() && string(batch.Keys.Get(slot)) != string(key) {
			slot++
		}
		if slot == batch.Keys.Len() {
			batch.Keys.Push(key)
			// Something goes away only if it is there.
			states[0].Push([]byte("\x03old"), true)
			states[1].Push([]byte("\x03"), true)
		}
		batch.Slots = append(batch.Slots, uint32(slot))
		batch.Values.Push([]byte("never read"))
		batch.Timestamps = append(batch.Timestamps, random.Int64N(100))
	}
	return batch, states
}

func TestACallInFewerBytesMeansWhatThePlainOneDoes(t *testing.T) {
	for _, one := range []struct {
		letters string
		unread  sdk.Columns
	}{
		{"e", 0}, {"n", sdk.RecordValues}, {"eE-", 0}, {"edkN", 0}, {"ednktbEDNKTBsc--", 0}, {"sec", 0}, {"s", 0},
		{"ednkEDNKsc-", sdk.RecordValues | sdk.RecordTimestamps}, {"tb-", sdk.RecordTimestamps},
	} {
		plugin, err := contract.Make(&drawn{unread: one.unread}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := plugin.Open(nil); err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(12, 34))
		for range 300 {
			batch, states := drawBatch(random, one.letters)
			output, err := plugin.Process(0, batch, states)
			if err != nil {
				t.Fatal(err)
			}
			ports, from := expected(batch)
			compact, compactFrom := readCompact(t, output, batch)
			plain := output.Plain(batch)
			what := fmt.Sprintf("keys %q, slots %v", batch.Keys.Bytes, batch.Slots)
			if !reflect.DeepEqual(compact, ports) || !reflect.DeepEqual(compactFrom, from) {
				t.Fatalf("%s: %v from %v instead of %v from %v", what, compact, compactFrom, ports, from)
			}
			if plainly := readPlain(&plain, batch); !reflect.DeepEqual(plainly, ports) {
				t.Fatalf("%s: plainly %v instead of %v", what, plainly, ports)
			}
			checkWrites(t, output, batch)
			if t.Failed() {
				t.Fatal(what)
			}
		}
	}
}

// peeks reads what its letters say.
type peeks struct{ unread sdk.Columns }

func (p *peeks) Inputs() []string { return []string{"first", "second"} }
func (p *peeks) Unread(input string) sdk.Columns {
	if input == "first" {
		return 0
	}
	return p.unread
}

func (p *peeks) Process(record sdk.Record, out *sdk.Output) error {
	switch string(record.Key()) {
	case "value":
		out.Emit(record.Value())
	case "text":
		text, err := record.Text()
		out.EmitString(text)
		return err
	case "time":
		timestamp, _ := record.Timestamp()
		out.At(timestamp + 1).Emit(nil)
	case "mixed":
		out.At(1).Emit(nil)
		out.Emit(nil)
	default:
		out.EmitString("same")
	}
	return nil
}

func TestAColumnThatIsDeclaredUnreadCannotBeRead(t *testing.T) {
	task := New(t, &peeks{unread: sdk.RecordValues | sdk.RecordTimestamps})
	for key, column := range map[string]string{"value": "RecordValues", "text": "RecordValues", "time": "RecordTimestamps", "mixed": "RecordTimestamps"} {
		_, err := task.TryOn("second", R(key, "v").At(3))
		part := "of input `second` is needed, and the operator's method Unread says that it is not read; take sdk." + column + " out of"
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", key, err)
		}
		task.RunOn("first", R(key, "v").At(3))
	}
	if emitted := task.RunOn("second", R("other", "v").At(3)); emitted[0] != R("other", "same").At(3) {
		t.Errorf("%v", emitted)
	}
}

func TestADecimalIsWrittenAsPackageFmtDoes(t *testing.T) {
	task := New(t, &decimals{})
	for power, number := 0, uint64(1); power < 20; power, number = power+1, number*10 {
		for _, written := range []uint64{number - 1, number, number + 1, number * 7 / 3, ^number} {
			if emitted := task.Run(R("k", fmt.Sprint(written))); emitted[0].Value != fmt.Sprint(written) {
				t.Errorf("%s instead of %d", emitted[0].Value, written)
			}
		}
	}
}

type decimals struct{}

func (*decimals) Process(record sdk.Record, out *sdk.Output) error {
	var number uint64
	_, err := fmt.Sscan(string(record.Value()), &number)
	out.EmitDecimal(number)
	return err
}
