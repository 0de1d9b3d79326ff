// Misbehaves as the value of a record says, and emits values that say nothing.
package main

import (
	"errors"
	"log/slog"
	"os"

	"floodmark.dev/sdk"
)

// Misbehaves has nothing to lose.
type Misbehaves struct{}

func (Misbehaves) Process(record sdk.Record, out *sdk.Output) error {
	switch string(record.Value()) {
	case "trap":
		// A panic would be an error of the call: this is how the run-time ends when all is lost.
		os.Exit(2)
	case "loop":
		for {
		}
	case "memory":
		fillMemory()
	case "error":
		return errors.New("as asked")
	case "log":
		slog.Info("hello")
	default:
		out.Emit(record.Value())
	}
	return nil
}

// fillMemory keeps what it allocates, so that there is no way to do without the memory.
func fillMemory() {
	for kept := [][]byte(nil); ; {
		block := make([]byte, 1<<20)
		for index := range block {
			block[index] = 1
		}
		kept = append(kept, block)
	}
}

func init() { sdk.Register(&Misbehaves{}) }

func main() {}
