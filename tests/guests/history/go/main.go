// Keeps the last values of each key in a list: emits how many there are and all of them, the oldest first.
package main

import (
	"strings"

	"floodmark.dev/sdk"
)

// History knows the last values.
type History struct {
	values sdk.List[string]
	// length is how many values are kept.
	length uint64
}

func (h *History) Open(config *sdk.Config) error {
	h.length = config.Uint("length", 5)
	return nil
}

func (h *History) Process(record sdk.Record, out *sdk.Output) error {
	text, err := record.Text()
	if err != nil {
		return err
	}
	h.values.Append(text)
	values := h.values.Slice()
	// A list loses items only all at once, so it is made short when it is twice as long as it needs to be.
	excess := uint64(0)
	if all := uint64(len(values)); all > h.length {
		excess = all - h.length
	}
	values = values[excess:]
	if excess >= h.length {
		h.values.Replace(values...)
	}
	out.Emitf("%d %s", len(values), strings.Join(values, ","))
	return nil
}

func init() { sdk.Register(&History{}) }

func main() {}
