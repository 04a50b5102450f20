package demo

import (
	"runtime"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/outbox"
)

// paused is a terminal that was stopped with Ctrl-S.
type paused struct {
	goOn chan struct{}
	text strings.Builder
}

func (p *paused) Write(b []byte) (int, error) {
	<-p.goOn
	return p.text.Write(b)
}

func TestPausedTerminalHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	terminal := &paused{goOn: make(chan struct{})}
	n := newNarrator(terminal)
	f := newFlow(n, 1)
	for id := range int64(backlog + 10) {
		f.show(&passage{event: outbox.Event{ID: id, Topic: "signals.x"}, own: true, arrivals: make([]arrival, 2)})
	}
	close(terminal.goOn)
	for f.passed > 0 { // until the backlog has drained far enough
		f.tick()
		runtime.Gosched()
	}
	n.close()
	told := terminal.text.String()
	if !strings.Contains(told, "more event") {
		t.Errorf("what was left out is not told of: %d bytes, the last: %q", len(told), told[max(0, len(told)-200):])
	}
	if strings.Contains(told, "\x1b") {
		t.Error("colours, and no terminal")
	}
}

func TestFlowIsLegible(t *testing.T) {
	t.Parallel()
	var told strings.Builder
	n := newNarrator(&told)
	f := newFlow(n, maxLines+1)
	for id := range int64(100) {
		f.show(&passage{event: outbox.Event{ID: id, Topic: "signals.own"}, own: true, arrivals: make([]arrival, 2)})
		f.show(&passage{event: outbox.Event{ID: id, Topic: "signals.others"}, arrivals: make([]arrival, 2)})
	}
	f.tick()
	f.tick() // nothing since
	n.close()
	if got := strings.Count(told.String(), "signals.others"); got != maxOthers {
		t.Errorf("%d lines about others' events, want %d", got, maxOthers)
	}
	if strings.Contains(told.String(), "signals.own") || strings.Count(told.String(), "190 events, handled by log and audit") != 1 {
		t.Errorf("the rest should be one line:\n%s", &told)
	}
}

func TestReadable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"temperature":            "temperature",
		"Größe":                  "Größe",
		"a \"b\" \\c":            "a \"b\" \\c",
		"red \x1b[31m":           `"red \x1b[31m"`,
		"two\nlines":             `"two\nlines"`,
		strings.Repeat("x", 100): strings.Repeat("x", 23) + "…",
	} {
		if got := readable(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
