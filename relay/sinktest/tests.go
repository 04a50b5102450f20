package sinktest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

// testDelivers relays without a fault: all is received once, in order by key, as it was published.
func testDelivers(t *testing.T, b *bench) {
	b.publish(t, 500, 20)
	b.start(t, nil)
	b.publish(t, 500, 20)
	b.drain(t)
	b.check(t, true)
	if list := b.rows(t); len(list) > 0 {
		t.Errorf("left: %+v", list)
	}
}

// testTrace has middleware begin a trace for each message, as a tracer does: what is received has its context, and not the publisher's.
func testTrace(t *testing.T, b *bench) {
	traceOf := func(uid string) string { return "00-" + strings.ReplaceAll(uid, "-", "") + "-00f067aa0ba902b7-01" }
	b.middleware = []worker.AsyncMiddleware{func(ctx context.Context, c worker.Call) (context.Context, func(error)) {
		c.Outgoing.Headers["traceparent"] = traceOf(c.Events[0].UID)
		return ctx, nil
	}}
	b.publish(t, 20, 5)
	b.start(t, nil)
	b.drain(t)
	for i := range b.published {
		e := &b.published[i]
		e.Headers = maps.Clone(e.Headers)
		e.Headers["traceparent"] = traceOf(e.UID)
	}
	b.check(t, true)
}

// testAnswersOnce sends without a worker: each message is answered once, an acknowledged one is there at that moment, and one whose context
// has ended is answered soon.
func testAnswersOnce(t *testing.T, b *bench) {
	sink := b.New(t)
	defer sink.Close()
	message := func(n int) *relay.Message {
		e := &outbox.Event{ID: int64(n), Topic: "test.happened", Payload: json.RawMessage("{}")}
		id := fmt.Sprint("message-", n)
		return &relay.Message{
			ID: id, Destination: b.destination, Body: e.Payload, ContentType: "application/json", Headers: map[string]string{"message-id": id}, Event: e, Attempt: 1,
		}
	}
	answers := make(chan error, 1)
	sink.Send(t.Context(), message(1), func(err error) { answers <- err })
	if err := <-answers; err != nil {
		t.Fatalf("a message was answered with %v", err)
	}
	if list := b.Received(t, b.destination); len(list) != 1 || list[0].ID != "message-1" {
		t.Errorf("when it was acknowledged, %+v was received", list)
	}
	const many = 100
	var mu sync.Mutex
	counts := map[int]int{}
	var all sync.WaitGroup
	all.Add(many)
	for n := range many {
		ctx, cancel := context.WithCancel(t.Context())
		if n%2 == 0 {
			cancel()
		}
		sink.Send(ctx, message(10+n), func(error) {
			cancel()
			mu.Lock()
			defer mu.Unlock()
			if counts[n]++; counts[n] == 1 {
				all.Done()
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("some messages were not answered")
	}
	mu.Lock()
	defer mu.Unlock()
	for n, count := range counts {
		if count != 1 {
			t.Errorf("message %d was answered %d times", n, count)
		}
	}
}

// testCheck has the sink look at destinations: it finds the one that is there, and says in one line what is wrong with the other.
func testCheck(t *testing.T, b *bench) {
	sink := b.New(t)
	defer sink.Close()
	if err := sink.Check(t.Context(), []string{b.destination}); err != nil {
		t.Errorf("Check of a destination that is there: %v", err)
	}
	if b.Missing == "" {
		return
	}
	if err := sink.Check(t.Context(), []string{b.destination, b.Missing}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("Check of a destination that is missing: %v", err)
	}
}

// testPoison publishes one event that is too large: it becomes a dead letter with a reason, its key goes on, and others never notice.
func testPoison(t *testing.T, b *bench) {
	big, err := json.Marshal(strings.Repeat("x", b.TooLarge))
	if err != nil {
		t.Fatal(err)
	}
	b.publish(t, 50, 3, outbox.Event{Topic: "test.happened", Key: "key-1", Payload: big})
	poison := b.published[50].ID
	b.publish(t, 50, 3)
	b.start(t, nil)
	b.drain(t)
	b.deadOnly(t, poison)
	b.published = append(b.published[:50], b.published[51:]...)
	b.check(t, false)
}

// deadOnly expects dead letters with a reason of these events, after one attempt, and nothing else.
func (b *bench) deadOnly(t *testing.T, ids ...int64) {
	t.Helper()
	list := b.rows(t)
	if len(list) != len(ids) {
		t.Errorf("left: %+v", list)
	}
	for i, r := range list {
		if i >= len(ids) || r.ID != ids[i] || r.State != string(outbox.Dead) || r.Attempt != 1 || r.Errors == "[]" {
			t.Errorf("left: %+v", r)
		}
	}
}

// testRefused routes one key to a destination that refuses messages: they become dead letters, and others never notice.
func testRefused(t *testing.T, b *bench) {
	b.publish(t, 40, 3)
	b.start(t, b.divert(b.Refused))
	b.drain(t)
	var refused []int64
	kept := b.published[:0:0]
	for _, e := range b.published {
		if e.Key == "key-1" {
			refused = append(refused, e.ID)
		} else {
			kept = append(kept, e)
		}
	}
	b.deadOnly(t, refused...)
	b.published = kept
	b.check(t, false)
}

// divert routes one key to another destination.
func (b *bench) divert(to string) relay.Router {
	return func(e *outbox.Event) (relay.Route, error) {
		if e.Key == "key-1" {
			return relay.Route{Destination: to, Key: e.Key}, nil
		}
		return relay.Route{Destination: b.destination, Key: e.Key}, nil
	}
}

// testMissing routes to a destination that is not there: no attempt is counted, and the reason is shown.
func testMissing(t *testing.T, b *bench) {
	b.publish(t, 20, 3)
	b.start(t, b.divert(b.Missing))
	eventually(t, "a failure is recorded, and the breaker is open", func() bool {
		open := false
		if err := b.db.Pool.QueryRow(t.Context(), `select exists (select from outbox.members m where m.breaker_opened_at is not null)`).Scan(&open); err != nil {
			t.Fatal(err)
		}
		for _, r := range b.rows(t) {
			if open && r.Errors != "[]" {
				return true
			}
		}
		return false
	})
	b.noneCounted(t)
}

// noneCounted expects that no attempt is counted, and nothing is dead.
func (b *bench) noneCounted(t *testing.T) {
	t.Helper()
	eventually(t, "no attempt is counted", func() bool {
		for _, r := range b.rows(t) {
			if r.State == string(outbox.Dead) {
				t.Fatalf("a dead letter: %+v", r)
			}
			if r.State == string(outbox.Retrying) && r.Attempt > 0 {
				return false
			}
		}
		return true
	})
}

// testOutage has the system end while events come: none is a dead letter, and all are there when it is back.
func testOutage(t *testing.T, b *bench) {
	b.publish(t, 100, 10)
	b.start(t, nil)
	b.drain(t)
	b.Stop(t)
	b.publish(t, 300, 10)
	eventually(t, "some of them wait", func() bool { return len(b.rows(t)) > 0 })
	b.publish(t, 300, 10)
	if n := b.unfinished(t); n < 600 {
		t.Errorf("%d of 600 events are unfinished while the system is away", n)
	}
	b.noneCounted(t)
	b.Start(t)
	b.drain(t)
	if list := b.rows(t); len(list) > 0 {
		t.Errorf("left: %+v", list)
	}
	b.check(t, false)
}

// testReconnects has the system end and begin again while events are in flight.
func testReconnects(t *testing.T, b *bench) {
	b.start(t, nil)
	for range 3 {
		b.publish(t, 1000, 20)
		eventually(t, "some are received", func() bool { return len(b.Received(t, b.destination)) > len(b.published)-900 })
		b.Stop(t)
		b.publish(t, 200, 20)
		b.Start(t)
		b.probe(t)
	}
	b.drain(t)
	if list := b.rows(t); len(list) > 0 {
		t.Errorf("left: %+v", list)
	}
	b.check(t, false)
}

// testHiccups has single messages fail while others of their key are in flight: they are not overtaken.
func testHiccups(t *testing.T, b *bench) {
	b.publish(t, 500, 5)
	b.start(t, nil)
	for n := range 10 {
		b.Hiccup(t)
		eventually(t, "more are received", func() bool { return len(b.Received(t, b.destination)) > n*50 })
		b.publish(t, 100, 5)
	}
	b.drain(t)
	if list := b.rows(t); len(list) > 0 {
		t.Errorf("left: %+v", list)
	}
	b.check(t, false)
}

// testFrozen has the system answer nothing for longer than an attempt may take.
func testFrozen(t *testing.T, b *bench) {
	b.publish(t, 100, 10)
	b.start(t, nil)
	b.drain(t)
	b.Freeze(t)
	thawed := false
	defer func() {
		if !thawed {
			b.Thaw(t)
		}
	}()
	b.publish(t, 300, 10)
	frozen := time.Now()
	eventually(t, "an attempt has had its time", func() bool {
		for _, r := range b.rows(t) {
			if r.Errors != "[]" || time.Since(frozen) > 2*attemptTimeout {
				return true
			}
		}
		return false
	})
	b.Thaw(t)
	thawed = true
	b.drain(t)
	if list := b.rows(t); len(list) > 0 {
		t.Errorf("left: %+v", list)
	}
	b.check(t, false)
}

// testShutdown stops the relay again and again while events are in flight. What is settled by then was received.
func testShutdown(t *testing.T, b *bench) {
	b.publish(t, 2000, 20)
	for range 3 {
		stop := b.start(t, nil)
		before := len(b.Received(t, b.destination))
		eventually(t, "some are received", func() bool { return len(b.Received(t, b.destination)) > before })
		stop()
		b.settledIsReceived(t)
		b.publish(t, 500, 20)
	}
	b.start(t, nil)
	b.drain(t)
	b.check(t, false)
}

// settledIsReceived expects that as many events were received as are settled, at least.
func (b *bench) settledIsReceived(t *testing.T) {
	t.Helper()
	seen := map[string]bool{}
	for _, m := range b.Received(t, b.destination) {
		seen[m.ID] = true
	}
	if settled := len(b.published) - int(b.unfinished(t)); settled > len(seen) {
		t.Errorf("%d events are settled, and %d were received", settled, len(seen))
	}
}

// testFrozenShutdown stops the relay while the system answers nothing: what is in flight is not settled.
func testFrozenShutdown(t *testing.T, b *bench) {
	b.publish(t, 100, 10)
	stop := b.start(t, nil)
	b.drain(t)
	b.Freeze(t)
	b.publish(t, 100, 10)
	eventually(t, "they are in flight", func() bool { return len(b.rows(t)) > 0 })
	stop()
	if n := b.unfinished(t); n != 100 {
		t.Errorf("%d of 100 events are unfinished", n)
	}
	b.Thaw(t)
	b.start(t, nil)
	b.drain(t)
	b.check(t, false)
}
