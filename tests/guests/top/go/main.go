// Counts, in a map of each key, how often each value came, and emits the three most frequent ones with their counts.
package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"floodmark.dev/sdk"
)

const top = 3

// Top knows how often each value came.
type Top struct {
	counts sdk.Map[string, uint64]
}

type count struct {
	value string
	times uint64
}

func (t *Top) Process(record sdk.Record, out *sdk.Output) error {
	text, err := record.Text()
	if err != nil {
		return err
	}
	t.counts.Set(text, t.counts.Get(text)+1)
	var counts []count
	for value, times := range t.counts.All() {
		counts = append(counts, count{value, times})
	}
	// Stable, so equal counts stay in the order of their values.
	slices.SortStableFunc(counts, func(one, other count) int { return cmp.Compare(other.times, one.times) })
	var shown []string
	for _, count := range counts[:min(top, len(counts))] {
		shown = append(shown, fmt.Sprintf("%s=%d", count.value, count.times))
	}
	out.EmitString(strings.Join(shown, " "))
	return nil
}

func init() { sdk.Register(&Top{}) }

func main() {}
