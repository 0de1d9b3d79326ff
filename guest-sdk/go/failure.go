package sdk

import (
	"fmt"
	"path"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A failure is an error that leaves Process by a panic: what a state or a port was asked for cannot be had. It becomes the error of the
// call without a stack, since its text says all.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// stackLinesMax is how many lines of a panic's stack are told.
const stackLinesMax = 4

// recovered is what a panic becomes. It is called by the function that recovers.
func recovered(cause any) error {
	if failure, isOurs := cause.(failure); isOurs {
		return failure.error
	}
	text := fmt.Sprintf("panic: %v", cause)
	if where := stack(); where != "" {
		text += " at " + where
	}
	return fmt.Errorf("%s", strings.ToValidUTF8(text, "\uFFFD"))
}

// stack has the innermost lines of the user's code, without those of the run-time and of this package around them.
func stack() string {
	var counters [64]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(0, counters[:])])
	var lines []string
	isPanic := false
	for {
		frame, hasMore := frames.Next()
		isRuntime := strings.HasPrefix(frame.Function, "runtime.")
		isOurs := strings.HasPrefix(frame.Function, "floodmark.dev/sdk.")
		switch {
		case !isPanic:
			// What was deferred and recovers comes first.
			isPanic = frame.Function == "runtime.gopanic"
		case !isRuntime && !isOurs && frame.Function != "":
			file := path.Join(path.Base(path.Dir(frame.File)), path.Base(frame.File))
			lines = append(lines, fmt.Sprintf("%s (%s:%d)", frame.Function, file, frame.Line))
		}
		if isEnd := strings.HasSuffix(frame.Function, "sdk.(*plugin).run"); !hasMore || isEnd || len(lines) == stackLinesMax {
			return strings.Join(lines, ", ")
		}
	}
}

// readableBytesMax is how much of a key or value a message has.
const readableBytesMax = 80

// readable are bytes as people read them: text as it is, anything else escaped, long ones cut.
func readable(text []byte) string {
	cut := text[:min(len(text), readableBytesMax)]
	var made strings.Builder
	for len(cut) > 0 {
		char, size := utf8.DecodeRune(cut)
		switch {
		case char == utf8.RuneError && size == 1:
			fmt.Fprintf(&made, "\\x%02x", cut[0])
		case unicode.IsControl(char):
			quoted := fmt.Sprintf("%q", string(char))
			made.WriteString(quoted[1 : len(quoted)-1])
		default:
			made.WriteRune(char)
		}
		cut = cut[size:]
	}
	if len(text) > readableBytesMax {
		fmt.Fprintf(&made, "… (%d bytes)", len(text))
	}
	return made.String()
}
