// Lets one record of each key through, and the next one only when none came for an hour.
package main

import "floodmark.dev/sdk"

// Dedupe keeps which keys were seen.
type Dedupe struct {
	seen sdk.Value[struct{}] `floodmark:",ttl=1h"`
}

func (d *Dedupe) Process(record sdk.Record, out *sdk.Output) error {
	if !d.seen.Has() {
		out.Emit(record.Value())
	}
	d.seen.Set(struct{}{})
	return nil
}

func init() { sdk.Register(&Dedupe{}) }

func main() {}
