package sdk

import (
	"context"
	"log/slog"
	"strings"

	"floodmark.dev/sdk/internal/contract"
)

// LevelTrace is below [slog.LevelDebug], for lines that help only to find a fault.
const LevelTrace = slog.Level(-8)

// LogHandler writes records of package [log/slog] to the job's log. In a plugin it is that of the default logger, so that [slog.Info] and
// package log arrive there without further steps; what is printed arrives there, too.
//
// The host adds operator, task and time, cuts long lines and bounds the rate.
func LogHandler() slog.Handler {
	handler := &logHandler{}
	handler.text = slog.NewTextHandler(&handler.line, &slog.HandlerOptions{Level: LevelTrace, ReplaceAttr: onlyAttributes})
	return handler
}

// logHandler writes the message, and behind it the attributes as text of `key=value`.
type logHandler struct {
	text slog.Handler
	line strings.Builder
	// groups and attributes are passed to each new text handler.
	with []func(slog.Handler) slog.Handler
}

func (h *logHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *logHandler) Handle(context context.Context, record slog.Record) error {
	h.line.Reset()
	h.line.WriteString(record.Message)
	h.line.WriteByte(' ')
	if err := h.text.Handle(context, record); err != nil {
		return err
	}
	line := strings.TrimRight(h.line.String(), " \n")
	contract.Current.Line(levelOf(record.Level), strings.ToValidUTF8(line, "\uFFFD"))
	return nil
}

func (h *logHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return h.and(func(text slog.Handler) slog.Handler { return text.WithAttrs(attributes) })
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return h.and(func(text slog.Handler) slog.Handler { return text.WithGroup(name) })
}

func (h *logHandler) and(more func(slog.Handler) slog.Handler) slog.Handler {
	made := LogHandler().(*logHandler)
	made.with = append(append(made.with, h.with...), more)
	for _, with := range made.with {
		made.text = with(made.text)
	}
	return made
}

// onlyAttributes leaves out what the host adds, and the message, which stands before them.
func onlyAttributes(groups []string, attribute slog.Attr) slog.Attr {
	isBuiltIn := attribute.Key == slog.TimeKey || attribute.Key == slog.LevelKey || attribute.Key == slog.MessageKey
	if len(groups) == 0 && isBuiltIn {
		return slog.Attr{}
	}
	return attribute
}

func levelOf(level slog.Level) contract.Level {
	switch {
	case level < slog.LevelDebug:
		return contract.LevelTrace
	case level < slog.LevelInfo:
		return contract.LevelDebug
	case level < slog.LevelWarn:
		return contract.LevelInfo
	case level < slog.LevelError:
		return contract.LevelWarn
	default:
		return contract.LevelError
	}
}
