package main

import (
	"slices"
	"testing"

	"floodmark.dev/sdk/sdktest"
)

func TestEachKeyCountsFromOne(t *testing.T) {
	task := sdktest.New(t, &Operator{})
	emitted := task.Run(sdktest.R("rain", ""), sdktest.R("sun", ""), sdktest.R("rain", ""))
	expected := []sdktest.Record{sdktest.R("rain", "1"), sdktest.R("sun", "1"), sdktest.R("rain", "2")}
	if !slices.Equal(emitted, expected) {
		t.Errorf("%v instead of %v", emitted, expected)
	}
}

func TestCountingGoesOnAfterAnInstanceIsGone(t *testing.T) {
	task := sdktest.New(t, &Operator{}, sdktest.Options{"step": "10"})
	task.Run(sdktest.R("rain", ""))
	task.Kill()
	if emitted := task.Run(sdktest.R("rain", "")); emitted[0].Value != "20" {
		t.Errorf("%v", emitted)
	}
}
