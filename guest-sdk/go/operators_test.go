package sdk_test

// Catches emissions with a wrong key, time, port or order, errors that do not say what a person needs, and an instance
// that keeps what it learnt from a batch that was never applied.

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"floodmark.dev/sdk"
	. "floodmark.dev/sdk/sdktest"
)

// script does what the letters of a value say.
type script struct {
	seen  sdk.Value[uint64]
	limit int64
	calls int
}

var (
	done  = sdk.NewCounter("done")
	level = sdk.NewGauge("level")
	sizes = sdk.NewHistogram("sizes")
)

func (s *script) Outputs() []string { return []string{"one", "two"} }

func (s *script) Open(config *sdk.Config) error {
	s.limit = config.Int("limit", 3)
	if config.Bool("refuse", false) {
		return errors.New("not in the mood")
	}
	return nil
}

func (s *script) Process(record sdk.Record, out *sdk.Output) error {
	s.calls++
	s.seen.Set(s.seen.Get() + 1)
	done.Add(1)
	level.Set(float64(s.limit))
	sizes.Observe(float64(len(record.Value())))
	for _, letter := range string(record.Value()) {
		switch letter {
		case 'e':
			out.EmitString("plain")
		case 'n':
			out.EmitDecimal(1 << 40)
		case 'k':
			out.KeyString("other").EmitString("keyed")
		case 't':
			out.At(7).Emit([]byte("timed"))
		case '2':
			out.To("two").Emitf("%s", record.Key())
		case 'b':
			out.To("two").Key([]byte{255}).At(-1).EmitDecimal(0)
		case 'r':
			out.Reject("no")
			out.Rejectf("%s", "never")
		case 'f':
			return errors.New("as asked")
		case 'p':
			var nothing *script
			nothing.calls++
		case 'x':
			out.To("three").Emit(nil)
		case 'l':
			slog.With("a", 1).WithGroup("g").Warn("hello", "b", "two words")
			log.Print("plain")
			slog.Log(context.Background(), sdk.LevelTrace, "low")
		case 'c':
			out.Emitf("calls %d", s.calls)
		}
	}
	return nil
}

func check(t *testing.T, task *Task, given []Record, expected ...Record) {
	t.Helper()
	if emitted := task.Run(given...); !slices.Equal(emitted, expected) {
		t.Errorf("%v instead of %v", emitted, expected)
	}
}

func TestEmissionsHaveTheKeyAndTimeOfTheirRecordUnlessToldOtherwise(t *testing.T) {
	one := func(key, value string) Record { return R(key, value).To("one") }
	two := func(key, value string) Record { return R(key, value).To("two") }
	task := New(t, &script{})
	check(t, task, []Record{R("a", "e").At(5), R("b", "n")}, one("a", "plain").At(5), one("b", "1099511627776"))
	check(t, task, []Record{R("a", ""), R("b", "e")}, one("b", "plain"))
	check(t, task, []Record{R("a", "ee"), R("b", "e"), R("a", "e")},
		one("a", "plain"), one("a", "plain"), one("b", "plain"), one("a", "plain"))
	check(t, task, []Record{R("a", "e"), R("b", "k").At(4), R("b", "e").At(6)},
		one("a", "plain"), one("other", "keyed").At(4), one("b", "plain").At(6))
	check(t, task, []Record{R("a", "k"), R("b", "e")}, one("other", "keyed"), one("b", "plain"))
	check(t, task, []Record{R("a", "e"), R("b", "t"), R("a", "e")},
		one("a", "plain"), one("b", "timed").At(7), one("a", "plain"))
	check(t, task, []Record{R("a", "2e"), R("b", "b"), R("b", "2")},
		one("a", "plain"), two("a", "a"), two("\xff", "0").At(-1), two("b", "b"))
	// Nothing of one call is left in the next.
	check(t, task, []Record{R("c", "")})
}

func TestARejectedRecordLeavesTheOthersAlone(t *testing.T) {
	task := New(t, &script{})
	check(t, task, []Record{R("a", "e"), R("b", "r"), R("c", "e")}, R("a", "plain").To("one"), R("c", "plain").To("one"))
	if rejected := task.Rejected(); !slices.Equal(rejected, []Rejected{{Key: "b", Value: "r", Reason: "no"}}) {
		t.Errorf("%v", rejected)
	}
}

func TestAFailureSaysWhereAndLeavesNothing(t *testing.T) {
	task := New(t, &script{})
	task.Run(R("k", ""))
	for value, parts := range map[string][]string{
		"ef": {"a record with the key `k\\xff`: as asked"},
		"ep": {"a record with the key `k\\xff`: panic: ", "nil pointer", "(*script).Process (", "operators_test.go:"},
		"x":  {"there is no output `three`; this operator has `one`, `two`"},
	} {
		emitted, err := task.Try(R("k", "e"), R("k\xff", value))
		if err == nil || emitted != nil {
			t.Fatalf("%s: %v", value, emitted)
		}
		for _, part := range parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: `%s` is not in: %v", value, part, err)
			}
		}
	}
	if seen := task.JSON("seen", "k"); seen != "1" {
		t.Errorf("the state is %s", seen)
	}
	check(t, task, []Record{R("k", "c")}, R("k", "calls 1").To("one"))
}

func TestOptionsAreReadAndChecked(t *testing.T) {
	for _, one := range []struct {
		name, value, expected string
	}{
		{"limit", "-5", ""},
		{"limit", "5x", "option `limit` is `5x`, which is not a whole number"},
		{"refuse", "true", "not in the mood"},
		{"limits", "3", "unknown option `limits`; this operator knows `limit`, `refuse`"},
	} {
		_, err := New(t, &script{}, Options{one.name: one.value}).Try(R("k", ""))
		if err == nil && one.expected != "" || err != nil && (one.expected == "" || !strings.Contains(err.Error(), one.expected)) {
			t.Errorf("%s=%s: %v", one.name, one.value, err)
		}
	}
}

func TestLogAndMetricsAreHandedOver(t *testing.T) {
	task := New(t, &script{})
	task.Run(R("a", "l"), R("b", ""))
	expected := []Line{
		{Level: slog.LevelWarn, Message: `hello a=1 g.b="two words"`}, {Level: slog.LevelInfo, Message: "plain"}, {Level: sdk.LevelTrace, Message: "low"},
	}
	if lines := task.Log(); !slices.Equal(lines, expected) {
		t.Errorf("%q", lines)
	}
	if _, err := task.Try(R("a", "f")); err == nil {
		t.Error("it did not fail")
	}
	reported := task.Metrics()
	if reported.Counters["done"] != 2 || reported.Gauges["level"] != 3 || !slices.Equal(reported.Histograms["sizes"], []float64{1, 0}) {
		t.Errorf("%v", reported)
	}
}

type undecodable struct{ number sdk.Value[uint64] }

func (u *undecodable) Process(_ sdk.Record, out *sdk.Output) error {
	out.EmitDecimal(u.number.Get())
	return nil
}

func TestWhatDoesNotDecodeNamesStateAndKey(t *testing.T) {
	task := New(t, &undecodable{})
	task.SetBytes("number", "k", []byte{1, 2})
	_, err := task.Try(R("k", ""))
	if err == nil || !strings.Contains(err.Error(), "state `number` of key `k` does not decode as version 1 of its type: 1 bytes are left over") {
		t.Errorf("%v", err)
	}
}

type listener struct {
	completed []uint64
	state     sdk.Value[uint64]
}

func (l *listener) Process(_ sdk.Record, out *sdk.Output) error {
	out.Emitf("%v", l.completed)
	return nil
}
func (l *listener) CheckpointCompleted(checkpoint uint64) {
	l.completed = append(l.completed, checkpoint)
}
func (l *listener) CheckpointAborted(uint64) { l.state.Get() }

func TestAnOperatorHearsOfCheckpoints(t *testing.T) {
	task := New(t, &listener{})
	task.CompleteCheckpoint(1)
	check(t, task, []Record{R("k", "")}, R("k", "[]"))
	task.CompleteCheckpoint(2)
	check(t, task, []Record{R("k", "")}, R("k", "[2]"))
	// It has no key to use a state of.
	task.AbortCheckpoint(3)
	check(t, task, []Record{R("k", "")}, R("k", "[]"))
}

type wrongTag struct {
	limit int `floodmark:"limit"`
}

func (wrongTag) Process(sdk.Record, *sdk.Output) error { return nil }

type wrongTTL struct {
	seen sdk.Value[bool] `floodmark:",ttl=soon"`
}

func (*wrongTTL) Process(sdk.Record, *sdk.Output) error { return nil }

type twice struct {
	LastSeen sdk.Value[bool]
	other    sdk.Value[bool] `floodmark:"last-seen"`
}

func (*twice) Process(sdk.Record, *sdk.Output) error { return nil }

type wrongMigration struct{ seen sdk.Value[bool] }

func (*wrongMigration) Process(sdk.Record, *sdk.Output) error { return nil }
func (*wrongMigration) Migrations() []sdk.Migration {
	return []sdk.Migration{sdk.Migrate("seen", 1, func(bool) (uint64, error) { return 0, nil })}
}

func TestAnOperatorThatCannotBeOneIsRefusedWithTheReason(t *testing.T) {
	for expected, operator := range map[string]sdk.Operator{
		"field limit has the tag `limit` but is not a state":                     &wrongTag{},
		"it is not a pointer to a struct":                                        wrongTag{},
		"field seen: `ttl=soon` is not a time to live; write one such as":        &wrongTTL{},
		"field other: there are two states called `last-seen`":                   &twice{},
		"a migration of the state `seen` makes uint64, and the state keeps bool": &wrongMigration{},
	} {
		func() {
			defer func() {
				if cause, _ := recover().(string); !strings.Contains(cause, expected) {
					t.Errorf("`%s` instead of `%s`", cause, expected)
				}
			}()
			sdk.Register(operator)
		}()
	}
}
