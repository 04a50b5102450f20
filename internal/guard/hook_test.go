package guard

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestHookThatAlwaysFails counts each failure of a hook, and logs one line of those within a second, for each hook.
func TestHookThatAlwaysFails(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	begun, before := time.Now(), Faults(Hook)
	for range 1000 {
		CallHook(log, "always fails", func() { panic("boom") })
		CallHook(log, "fails as well", func() { panic("boom") })
	}
	if n := Faults(Hook) - before; n < 2000 { // other tests may count, too
		t.Errorf("%d failures were counted", n)
	}
	most := 1 + int(time.Since(begun)/hookLine)
	for _, name := range []string{"always fails", "fails as well"} {
		if n := strings.Count(out.String(), `hook="`+name+`"`); n < 1 || n > most {
			t.Errorf("%d lines about the hook that %s, want 1 to %d", n, name, most)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	var l lines
	now := time.Now()
	for _, step := range []struct {
		after  time.Duration
		unsaid int64
		due    bool
	}{{0, 0, true}, {0, 0, false}, {hookLine - 1, 0, false}, {1, 2, true}, {hookLine, 0, true}} {
		now = now.Add(step.after)
		if unsaid, due := l.next("hook", now); unsaid != step.unsaid || due != step.due {
			t.Errorf("after %v: got %d, %v, want %d, %v", step.after, unsaid, due, step.unsaid, step.due)
		}
	}
}
