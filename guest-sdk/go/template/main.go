// Counts the records of each key, and emits the count.
package main

import "floodmark.dev/sdk"

// Operator handles one record after the other. What its states keep outlasts it; other fields are settings and caches.
type Operator struct {
	count sdk.Value[uint64]
	step  uint64
}

// Open reads the options that a pipeline gives.
func (o *Operator) Open(config *sdk.Config) error {
	o.step = config.Uint("step", 1)
	return nil
}

// Process handles one record. The states are those of its key.
func (o *Operator) Process(_ sdk.Record, out *sdk.Output) error {
	count := o.count.Get() + o.step
	o.count.Set(count)
	out.EmitDecimal(count)
	return nil
}

func init() { sdk.Register(&Operator{}, sdk.Version("0.1.0")) }

// main never runs in a plugin.
func main() {}
