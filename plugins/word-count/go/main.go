// Counts words: for the n-th record of a key it emits n, from 1 on, as decimal text under the same key.
//
// It does not look at values, so it counts anything that has a key.
package main

import "floodmark.dev/sdk"

// WordCount keeps how often each word was seen.
type WordCount struct {
	count sdk.Value[uint64]
}

// Unread says that only keys are read.
func (w *WordCount) Unread(string) sdk.Columns { return sdk.RecordValues | sdk.RecordTimestamps }

func (w *WordCount) Process(_ sdk.Record, out *sdk.Output) error {
	count := w.count.Get() + 1
	w.count.Set(count)
	out.EmitDecimal(count)
	return nil
}

func init() { sdk.Register(&WordCount{}) }

func main() {}
