package guard

import (
	"log/slog"
	"sync"
	"time"
)

// CallHook calls a hook that nothing depends on. If it panics, or ends its goroutine, that is counted, and is a line in the log: at most
// one a second for each hook, because one that always fails does so for each event.
func CallHook(log *slog.Logger, name string, hook func()) {
	if fault := Call(hook); fault != nil {
		HookFailed(log, name, fault)
	}
}

// HookFailed is what CallHook does about a hook that has failed, for callers that guard it themselves.
func HookFailed(log *slog.Logger, name string, fault error) {
	Count(Hook)
	if unsaid, due := hookLines.next(name, time.Now()); due {
		about := []any{"hook", name, "error", fault}
		if unsaid > 0 {
			about = append(about, "others", unsaid)
		}
		log.Error("hook failed", about...)
	}
}

// hookLine is the shortest time between two lines about one hook.
const hookLine = time.Second

var hookLines lines

// lines says when the next line about a name may be logged. The zero value is ready.
type lines struct {
	mu   sync.Mutex
	last map[string]line
}

type line struct {
	at     time.Time // when the last one was logged
	unsaid int64     // what was not logged since
}

// next returns whether a line is due now and, if so, how many were left out since the last one.
func (l *lines) next(name string, now time.Time) (unsaid int64, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, known := l.last[name]
	if known && now.Sub(before.at) < hookLine {
		before.unsaid++
		l.last[name] = before
		return 0, false
	}
	if l.last == nil {
		l.last = map[string]line{}
	}
	l.last[name] = line{at: now}
	return before.unsaid, true
}
