package worker

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestPauseWithinChain has a pause begin and end within a chain: what is behind the event that was put off for it waits for that.
func TestPauseWithinChain(t *testing.T) {
	t.Parallel()
	jobs := make([]job, 5)
	for i := range jobs {
		e := &engine.Event{}
		e.ID, e.Key = int64(i), "k"
		jobs[i].event, jobs[i].attempt = e, 1
	}
	var group sync.WaitGroup
	var came []int64
	looks := 0
	b := newBatch(jobs)
	b.start(t.Context(), &group, executor{
		handler: func(_ context.Context, e *outbox.Event, _ int) error {
			came = append(came, e.ID)
			return nil
		},
		timeout: time.Minute,
		paused: func() bool {
			looks++
			return looks == 3
		},
	}, 1)
	group.Wait()
	if !slices.Equal(came, []int64{0, 1}) {
		t.Errorf("handled were %v", came)
	}
	for i := range jobs {
		if jobs[i].behind != (i >= 2) {
			t.Errorf("job %d waits: %v", i, jobs[i].behind)
		}
	}
}
