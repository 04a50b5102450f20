package worker

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
)

// TestPatience: a statement that is given up leaves more time to the next ones, for a while, and one that does not end is noticed.
func TestPatience(t *testing.T) {
	t.Parallel()
	c := &connector{lease: time.Minute, log: slog.New(slog.DiscardHandler)}
	if got := c.allowed(); got != time.Minute {
		t.Errorf("a statement may take %v", got)
	}
	for range 9 {
		c.gaveUp(c.allowed())
	}
	if got := c.allowed(); got != longestPatience {
		t.Errorf("after some were given up, a statement may take %v", got)
	}
	c.until = time.Now().Add(-time.Second)
	if got := c.allowed(); got != time.Minute {
		t.Errorf("long after that, a statement may take %v", got)
	}

	w := &watch{connector: c, name: "s"}
	ctx := w.begin(t.Context())
	if err := c.overdue(); err != nil {
		t.Errorf("at once: %v", err)
	}
	ctx.Value((*statement)(nil)).(*statement).begun = time.Now().Add(-2 * time.Minute)
	if err := c.overdue(); !errors.Is(err, errSilence) {
		t.Errorf("long after its deadline: %v", err)
	}
	w.end(ctx, nil)
	if err := c.overdue(); err != nil || !errors.Is(context.Cause(ctx), context.Canceled) {
		t.Errorf("after its end: %v, %v", err, context.Cause(ctx))
	}
}
