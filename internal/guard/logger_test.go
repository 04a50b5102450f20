package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/slogtest"
)

// A fragile handler breaks in one of its methods.
type fragile struct {
	slog.Handler
	in     string
	broken func()
}

func (f fragile) Enabled(ctx context.Context, level slog.Level) bool {
	f.maybe("Enabled")
	return f.Handler.Enabled(ctx, level)
}

func (f fragile) Handle(ctx context.Context, r slog.Record) error {
	f.maybe("Handle")
	return f.Handler.Handle(ctx, r)
}

func (f fragile) WithAttrs(attrs []slog.Attr) slog.Handler {
	f.maybe("WithAttrs")
	return fragile{f.Handler.WithAttrs(attrs), f.in, f.broken}
}

func (f fragile) WithGroup(name string) slog.Handler {
	f.maybe("WithGroup")
	return fragile{f.Handler.WithGroup(name), f.in, f.broken}
}

func (f fragile) maybe(in string) {
	if f.in == in {
		f.broken()
	}
}

// Whatever breaks, the caller goes on, and the line is in one place or the other.
func TestLoggerSurvives(t *testing.T) {
	t.Parallel()
	for how, broken := range map[string]func(){
		"panic": func() { panic("boom") }, "rude panic": func() { panic(rude{exits: true}) }, "Goexit": runtime.Goexit,
	} {
		for _, in := range []string{"Enabled", "Handle", "WithAttrs", "WithGroup", "nowhere"} {
			t.Run(how+" in "+in, func(t *testing.T) {
				t.Parallel()
				var log, spare bytes.Buffer
				l := logger(slog.New(fragile{slog.NewTextHandler(&log, nil), in, broken}), &spare)
				l.With("a", 1).WithGroup("g").Warn("it happened", "b", 2)
				lines, other := log.String(), spare.String()
				if in == "Handle" {
					lines, other = other, lines
					if !strings.Contains(lines, "a=1") || !strings.Contains(lines, "g.b=2") || !strings.Contains(lines, "logger_fault=") {
						t.Errorf("standard error gets %q, want all of the line, and why", lines)
					}
				}
				if strings.Count(lines, "\n") != 1 || !strings.Contains(lines, "it happened") || other != "" {
					t.Errorf("the line is not in the one place where it belongs: %q and %q", lines, other)
				}
			})
		}
	}
}

// A value in a line may break its handler, too.
func TestLoggerSurvivesValues(t *testing.T) {
	t.Parallel()
	var log, spare bytes.Buffer
	l := logger(slog.New(slog.NewTextHandler(&log, nil)), &spare)
	l.Warn("it happened", "error", rude{exits: true})
	l.With("error", rude{exits: true}).Warn("again")
	if got := log.String() + spare.String(); !strings.Contains(got, "again") {
		t.Errorf("got %q", got)
	}
}

func TestLoggerWithoutHandler(t *testing.T) {
	t.Parallel()
	var spare bytes.Buffer
	logger(&slog.Logger{}, &spare).Warn("it happened")
	if !strings.Contains(spare.String(), "it happened") {
		t.Errorf("got %q", &spare)
	}
}

// A Handler that works gets everything as it would without the guard.
func TestLoggerPasses(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		log.Reset()
		return Logger(slog.New(slog.NewJSONHandler(&log, nil))).Handler()
	}, func(t *testing.T) map[string]any {
		var line map[string]any
		if err := json.Unmarshal(log.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		return line
	})
	failing := errors.New("disk full")
	if err := Logger(slog.New(refusing{failing})).Handler().Handle(t.Context(), slog.Record{}); !errors.Is(err, failing) {
		t.Errorf("got %v, want the Handler's own error", err)
	}
}

type refusing struct{ err error }

func (refusing) Enabled(context.Context, slog.Level) bool    { return true }
func (r refusing) Handle(context.Context, slog.Record) error { return r.err }
func (r refusing) WithAttrs([]slog.Attr) slog.Handler        { return r }
func (r refusing) WithGroup(string) slog.Handler             { return r }

func TestLoggerOnce(t *testing.T) {
	t.Parallel()
	l := Logger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if Logger(l) != l {
		t.Error("one that is guarded is guarded again")
	}
}
