package inflight_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/signalbox-go/signalbox/relay/internal/inflight"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answers returns a done that remembers what it was called with.
func answers(n int) (done func(error), got chan error) {
	got = make(chan error, n)
	return func(err error) { got <- err }, got
}

func TestAnswersOnce(t *testing.T) {
	t.Parallel()
	set := inflight.New(10, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done, got := answers(100)
	f := set.Begin(ctx, done)
	if set.Len() != 1 {
		t.Errorf("%d are in flight, want 1", set.Len())
	}
	var racers sync.WaitGroup
	errNo := errors.New("no")
	for range 10 {
		racers.Go(func() { f.Answer(errNo) })
	}
	racers.Wait()
	cancel()
	if err := <-got; !errors.Is(err, errNo) || set.Len() != 0 {
		t.Errorf("answered %v, %d are in flight", err, set.Len())
	}
	if len(got) != 0 {
		t.Errorf("%d more answers", len(got))
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	set := inflight.New(1, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done, got := answers(2)
	set.Begin(ctx, done)
	blocked := make(chan *inflight.Flight)
	go func() { blocked <- set.Begin(ctx, done) }()
	cancel()
	for range 2 {
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("answered %v", err)
		}
	}
	if f := <-blocked; f != nil && set.Len() != 0 {
		t.Errorf("%d are in flight", set.Len())
	}
	// A context that has ended before is no different.
	set.Begin(ctx, done)
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("answered %v", err)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	set := inflight.New(1, time.Millisecond)
	done, got := answers(1)
	f := set.Begin(t.Context(), done)
	if err := <-got; err == nil || !strings.Contains(err.Error(), "no answer within 1ms") {
		t.Errorf("answered %v", err)
	}
	f.Answer(nil) // too late: nothing happens
	set.Begin(t.Context(), func(error) {}).Answer(nil)
}

// What is called when a message is done may begin the next one.
func TestNextFromDone(t *testing.T) {
	t.Parallel()
	set := inflight.New(1, time.Hour)
	done, got := answers(1)
	set.Begin(t.Context(), func(error) { set.Begin(t.Context(), done).Answer(nil) }).Answer(nil)
	if err := <-got; err != nil {
		t.Error(err)
	}
}
