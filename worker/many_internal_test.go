package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// TestHalfAfterPause has what failed in one call be called again in halves, and the first ask for a pause: the other is not called.
func TestHalfAfterPause(t *testing.T) {
	t.Parallel()
	calls := 0
	r := &runner{log: slog.New(slog.DiscardHandler)}
	r.sub.Timeout = unlimited
	r.sub.many = func(_ context.Context, _ pgx.Tx, jobs []*job) {
		calls++
		err := errors.New("no")
		if calls == 2 {
			err = PauseFor(time.Minute, err)
		}
		for _, j := range jobs {
			j.failure = failureOf(err)
		}
	}
	jobs := make([]*job, 4)
	for i := range jobs {
		jobs[i] = &job{event: &engine.Event{}, attempt: 2, delivery: true, counted: true}
		jobs[i].event.Key = fmt.Sprint(i)
	}
	r.halve(t.Context(), jobs)
	if calls != 2 {
		t.Errorf("there were %d calls, want 2", calls)
	}
	for i, j := range jobs {
		if j.failure == nil || j.behind {
			t.Errorf("event %d was tried, and is not recorded as that", i)
		}
	}
}

// TestHalvedIsTried has a batch get no tokens, and its first half get some: what is handled then is delivered, and not handled again.
func TestHalvedIsTried(t *testing.T) {
	t.Parallel()
	called := map[*job]bool{}
	r := &runner{log: slog.New(slog.DiscardHandler), pacer: pacer{Limiter: rate.NewLimiter(100, 8)}}
	r.sub.Timeout = unlimited
	r.sub.many = func(_ context.Context, _ pgx.Tx, jobs []*job) {
		for _, j := range jobs {
			called[j] = true
		}
	}
	jobs := make([]*job, 8)
	for i := range jobs {
		jobs[i] = &job{event: &engine.Event{}, attempt: 2, delivery: true, counted: true}
		jobs[i].event.Key = fmt.Sprint(i)
	}
	r.pacer.ReserveN(time.Now(), 8)
	r.begun = time.Now().Add(60*time.Millisecond - windowTime) // there is time for six tokens
	r.halve(t.Context(), jobs)
	if len(called) == 0 || len(called) == len(jobs) {
		t.Fatalf("%d of %d were handled", len(called), len(jobs))
	}
	for i, j := range jobs {
		if j.done() != called[j] {
			t.Errorf("event %d: handled is %v, and recorded is %v", i, called[j], j.done())
		}
	}
}
