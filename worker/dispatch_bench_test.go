package worker

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// BenchmarkDispatch has the events of a window begun and answered, without a database: -benchmem tells what AsyncMiddleware adds, and that those
// who have none do not pay for it. One operation is a window of 1,000 events.
func BenchmarkDispatch(b *testing.B) {
	type key struct{}
	around := func(ctx context.Context, _ Call) (context.Context, func(error)) {
		return context.WithValue(ctx, key{}, 1), func(error) {}
	}
	b.Run("plain", func(b *testing.B) { dispatch(b) })
	b.Run("middleware", func(b *testing.B) { dispatch(b, around) })
}

func dispatch(b *testing.B, middleware ...AsyncMiddleware) {
	const events = 1000
	w := &Worker{}
	s := Subscription{Name: "s", Topics: []string{">"}, AsyncMiddleware: middleware}
	err := HandleAsync(w, s, Strict, func(_ context.Context, _ *Event[json.RawMessage], done func(error)) { done(nil) })
	if err != nil {
		b.Fatal(err)
	}
	x := executor{
		begin: w.subscriptions[0].begin, timeout: 30 * time.Second, paused: func() bool { return false }, tell: func(ended func(error), err error) { ended(err) },
	}
	window := make([]engine.Event, events)
	for i := range window {
		window[i].Event = outbox.Event{ID: int64(i), Topic: "a", Payload: json.RawMessage("1")}
	}
	b.ReportAllocs()
	for b.Loop() {
		jobs := make([]job, events)
		for i := range jobs {
			jobs[i].event, jobs[i].attempt = &window[i], 1
		}
		var group sync.WaitGroup
		batch := newBatch(jobs)
		batch.start(b.Context(), &group, x, events)
		<-batch.done
		group.Wait()
	}
}
