package main

// Catches counts that start at 0, that mix up words, or that are lost with an instance.

import (
	"slices"
	"testing"

	. "floodmark.dev/sdk/sdktest"
)

func TestEachWordCountsFromOne(t *testing.T) {
	task := New(t, &WordCount{})
	emitted := task.Run(R("rain", ""), R("sun", ""), R("rain", "any value"), R("rain", "").At(7))
	expected := []Record{R("rain", "1"), R("sun", "1"), R("rain", "2"), R("rain", "3").At(7)}
	if !slices.Equal(emitted, expected) {
		t.Errorf("%v instead of %v", emitted, expected)
	}
}

func TestCountingGoesOnAfterAnInstanceIsGone(t *testing.T) {
	task := New(t, &WordCount{})
	task.Run(R("rain", ""), R("rain", ""))
	task.Kill()
	if emitted := task.Run(R("rain", "")); emitted[0].Value != "3" {
		t.Errorf("%v", emitted)
	}
	if count := task.JSON("count", "rain"); count != "3" {
		t.Errorf("the state is %s", count)
	}
}
