package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/webhook"
	"github.com/signalbox-go/signalbox/worker"
)

// A numbered is the payload of the n-th event of a line.
type numbered struct {
	Line string `json:"line"`
	N    int    `json:"n"`
}

// TestWorkerThousandEndpoints is TestThousandEndpoints with a worker, a database and TLS: while 10 of 1,000 endpoints are dead, 10 answer
// nothing and 10 say 429, the other 970 get everything, in order. The 30 get it once they are mended. There is no dead letter, and nothing is
// left.
func TestWorkerThousandEndpoints(t *testing.T) {
	t.Parallel()
	const all, each, perLine = 1000, 10, 3
	ctx := t.Context()
	db := pgtest.New(t)
	var mu sync.Mutex
	lines := map[string][]int{}
	var fine, bad atomic.Int64 // messages that were taken
	mended := make(chan struct{})
	mend := sync.OnceFunc(func() { close(mended) })
	isMended := func() bool {
		select {
		case <-mended:
			return true
		default:
			return false
		}
	}
	hooks, ca := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		var body numbered
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		taken := &bad
		switch kind := r.URL.Path[1:5]; {
		case kind == "fine":
			taken = &fine
		case kind == "slow":
			select {
			case <-mended:
			case <-r.Context().Done():
				return
			}
		case !isMended():
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		mu.Lock()
		lines[body.Line] = append(lines[body.Line], body.N)
		mu.Unlock()
		taken.Add(1)
	})
	dead := deadURL(t)
	s := open(t, webhook.Config{Endpoints: func(_ context.Context, name string) (webhook.Endpoint, error) {
		e := webhook.Endpoint{URL: hooks + "/" + name, Unsigned: true, CAFile: ca, Timeout: patience}
		if name[:4] == "dead" && !isMended() {
			e.URL = dead
		}
		return e, nil
	}})
	t.Cleanup(mend) // before the sink is closed, or it waits for the slow ones
	names := make([]string, all)
	for i := range names {
		kind := "fine"
		if i/each < 3 {
			kind = []string{"dead", "slow", "busy"}[i/each]
		}
		names[i] = fmt.Sprint(kind, i)
	}
	_, err := outbox.PublishFrom(ctx, db.Pool, func(yield func(outbox.Event, error) bool) {
		for n := range perLine {
			for _, name := range names {
				for _, key := range []string{name + "-a", name + "-b"} {
					payload, err := json.Marshal(numbered{Line: key, N: n})
					if !yield(outbox.Event{Topic: "hooks." + name, Key: key, Payload: payload}, err) {
						return
					}
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(db.Pool, worker.Config{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	route, err := relay.Template("{topic[1]}")
	if err != nil {
		t.Fatal(err)
	}
	sub := worker.Subscription{Name: "hooks", Topics: []string{"hooks.*"}, BreakerAfter: worker.Unlimited, Timeout: 2 * patience}
	if err := relay.Handle(w, sub, s, relay.Config{Route: route, Encoding: relay.Plain}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		mend()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	const ofFine, ofBad = (all - 3*each) * 2 * perLine, 3 * each * 2 * perLine
	eventually(t, "the healthy endpoints have everything", func() bool { return fine.Load() >= ofFine })
	if bad.Load() > 0 {
		t.Errorf("%d messages were taken by endpoints that take none", bad.Load())
	}
	mend()
	eventually(t, "the others have everything, too", func() bool { return bad.Load() >= ofBad })
	var left int
	eventually(t, "nothing is left, and there is no dead letter", func() bool {
		if err := db.Pool.QueryRow(ctx, `select (select count(*) from outbox.deliveries) + (select count(*) from outbox.held_keys)`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		return left == 0
	})
	mu.Lock()
	defer mu.Unlock()
	for line, ns := range lines {
		if !slices.Equal(ns, []int{0, 1, 2}) {
			t.Errorf("%s got %v", line, ns)
		}
	}
	if len(lines) != 2*all {
		t.Errorf("%d lines, want %d", len(lines), 2*all)
	}
}
