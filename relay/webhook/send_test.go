package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/webhook"
)

// TestEverySendIsAnsweredOnce sends from many goroutines to endpoints that answer as they please, ends contexts, and closes the sink.
func TestEverySendIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	const perEndpoint = 2
	rapid.Check(t, func(rt *rapid.T) {
		var mu sync.Mutex
		running := map[string]int{}
		begin := func(name string, most int) {
			mu.Lock()
			defer mu.Unlock()
			if running[name]++; running[name] > most {
				rt.Errorf("%d requests at once of %q", running[name], name)
			}
		}
		end := func(name string) {
			mu.Lock()
			defer mu.Unlock()
			running[name]--
		}
		cancels := rapid.Bool().Draw(rt, "contexts end")
		requests := rapid.IntRange(1, 12).Draw(rt, "requests")
		hooks := plainReceiver(t, func(w http.ResponseWriter, r *http.Request) {
			if !cancels { // else a receiver is at work when the sender has gone
				for name, most := range map[string]int{"": requests, r.URL.Path: perEndpoint, r.URL.Path + " " + r.Header.Get("key"): 1} {
					begin(name, most)
					defer end(name)
				}
			}
			pause, _ := strconv.Atoi(r.Header.Get("pause"))
			time.Sleep(time.Duration(pause) * time.Millisecond)
			status, _ := strconv.Atoi(r.Header.Get("status"))
			w.WriteHeader(status)
		})
		endpoint := func(name string) webhook.Endpoint {
			return webhook.Endpoint{URL: hooks + "/" + name, Unsigned: true, Concurrency: perEndpoint}
		}
		cfg := webhook.Config{Concurrency: requests, Allow: loopback, Logger: quiet}
		if rapid.Bool().Draw(rt, "single") {
			e := endpoint("x")
			cfg.Endpoint = &e
		} else {
			dead := deadURL(t)
			cfg.Endpoints = func(_ context.Context, name string) (webhook.Endpoint, error) {
				switch name {
				case "unknown":
					return webhook.Endpoint{}, webhook.ErrUnknownEndpoint
				case "dead":
					return webhook.Endpoint{URL: dead, Unsigned: true}, nil
				}
				return endpoint(name), nil
			}
		}
		s, err := webhook.New(cfg)
		if err != nil {
			rt.Fatal(err)
		}
		n := rapid.IntRange(1, 150).Draw(rt, "messages")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answers := make([]atomic.Int64, n)
		var sends, answered sync.WaitGroup
		answered.Add(n)
		for i := range n {
			m := message(rapid.SampledFrom([]string{"a", "a", "b", "dead", "unknown"}).Draw(rt, "endpoint"), fmt.Sprint(i))
			m.Key = rapid.SampledFrom([]string{"", "", "k1", "k2", "k3"}).Draw(rt, "key")
			m.Headers = map[string]string{
				"key":    m.Key,
				"pause":  fmt.Sprint(rapid.IntRange(0, 4).Draw(rt, "pause")),
				"status": fmt.Sprint(rapid.SampledFrom([]int{200, 200, 200, 500, 429, 410, 400}).Draw(rt, "status")),
			}
			sends.Go(func() {
				s.Send(ctx, m, func(error) {
					if answers[i].Add(1) == 1 {
						answered.Done()
					}
				})
			})
		}
		if cancels {
			cancel()
		}
		if rapid.Bool().Draw(rt, "closed early") {
			_ = s.Close() // what has begun ends, the rest is refused
		}
		sends.Wait()
		answered.Wait()
		if err := s.Close(); err != nil {
			rt.Error(err)
		}
		for i := range answers {
			if got := answers[i].Load(); got != 1 {
				rt.Errorf("message %d has %d answers", i, got)
			}
		}
		if status := s.Status(); status.Running != 0 || status.Waiting != 0 {
			rt.Errorf("at the end: %+v", status)
		}
	})
}

// blocked starts a receiver that answers when the returned function is called.
func blocked(t *testing.T) (url string, requests *atomic.Int64, release func()) {
	t.Helper()
	released, requests := make(chan struct{}), &atomic.Int64{}
	release = sync.OnceFunc(func() { close(released) })
	url = plainReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the client goes
		select {
		case <-released:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(release)
	return url, requests, release
}

// TestContextEnds has it end for a message that is sent, and one that waits.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]func(url string) webhook.Config{
		"many": to,
		"single": func(url string) webhook.Config {
			return webhook.Config{Endpoint: &webhook.Endpoint{URL: url, Unsigned: true}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, requests, _ := blocked(t)
			s := open(t, cfg(url))
			ctx, cancel := context.WithCancel(t.Context())
			answers := make(chan error, 2)
			for i := range 2 {
				s.Send(ctx, message("a", fmt.Sprint(i)), func(err error) { answers <- err })
			}
			eventually(t, "a request", func() bool { return requests.Load() == 1 })
			cancel()
			for range 2 {
				if err := <-answers; !errors.Is(err, context.Canceled) && !says(err, "has much to do") {
					t.Error(err)
				}
			}
		})
	}
}

// TestWaitingIsBounded sends more to a slow endpoint than waits in the sink: what is too much comes back, without an attempt.
func TestWaitingIsBounded(t *testing.T) {
	t.Parallel()
	url, requests, release := blocked(t)
	s := open(t, to(url))
	const n = 200
	answers := make(chan error, n)
	for i := range n {
		s.Send(t.Context(), message("a", fmt.Sprint(i)), func(err error) { answers <- err })
	}
	if status := s.Status(); status.Running != 1 || status.Waiting > 32 {
		t.Errorf("%+v", status)
	}
	for range n - 1 { // those that wait come back after a moment
		if err := <-answers; !says(err, "has much to do: snoozed for ") {
			t.Fatal(err)
		}
	}
	release()
	if err := <-answers; err != nil || requests.Load() != 1 {
		t.Errorf("%v after %d requests", err, requests.Load())
	}
}

// TestSingleBlocks sends more to a single endpoint than waits in the sink: Send blocks, and nothing comes back.
func TestSingleBlocks(t *testing.T) {
	t.Parallel()
	url, requests, release := blocked(t)
	s := open(t, webhook.Config{Endpoint: &webhook.Endpoint{URL: url, Unsigned: true}})
	const n = 100
	var sent atomic.Int64
	answers := make(chan error, n)
	go func() {
		for i := range n {
			s.Send(t.Context(), message("", fmt.Sprint(i)), func(err error) { answers <- err })
			sent.Add(1)
		}
	}()
	eventually(t, "it is full", func() bool { return s.Status().Waiting == 32 })
	if sent.Load() > 33 || requests.Load() > 1 {
		t.Errorf("%d sent, %d requests", sent.Load(), requests.Load())
	}
	release()
	for range n {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}

// TestOneAfterTheOther sends messages of several lines at once: each line is in order, and lines run side by side.
func TestOneAfterTheOther(t *testing.T) {
	t.Parallel()
	arrived := &ledger{lines: map[string][]string{}}
	together := make(chan struct{}, 3)
	all := make(chan struct{})
	go func() {
		for range 3 {
			<-together
		}
		close(all)
	}()
	url := plainReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case together <- struct{}{}: // the first of each line waits for those of the others
		default:
		}
		select {
		case <-all:
		case <-time.After(patience):
			t.Error("lines wait for each other")
		}
		arrived.note(r)
	})
	s := open(t, to(url))
	var answered sync.WaitGroup
	want := map[string]string{}
	for i := range 15 {
		m := message("a", fmt.Sprint(i))
		m.Key = []string{"", "k1", "k2"}[i%3]
		m.Headers = map[string]string{"key": m.Key}
		want["/ "+m.Key] += m.ID + " "
		answered.Add(1)
		s.Send(t.Context(), m, func(err error) {
			if err != nil {
				t.Error(err)
			}
			answered.Done()
		})
	}
	answered.Wait()
	for line, ids := range want {
		got := ""
		for _, id := range arrived.lines[line] {
			got += id + " "
		}
		if got != ids {
			t.Errorf("%q got %s, want %s", line, got, ids)
		}
	}
}

// TestDownAndUp has an endpoint fail, and succeed again: few of its messages have an attempt that counts, and few are sent.
func TestDownAndUp(t *testing.T) {
	t.Parallel()
	var status, requests atomic.Int64
	status.Store(http.StatusInternalServerError)
	url := plainReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(int(status.Load()))
	})
	s := open(t, to(url))
	counted := 0
	for i := range 100 {
		if err := send(t, s, message("a", fmt.Sprint(i))); !says(err, "snoozed for ") {
			counted++
		}
	}
	if counted != 4 || requests.Load() > 20 {
		t.Errorf("%d attempts count, %d requests", counted, requests.Load())
	}
	if troubles := s.Status().Troubles; len(troubles) != 1 || troubles[0].State != webhook.Down {
		t.Errorf("%+v", troubles)
	}
	status.Store(http.StatusOK)
	eventually(t, "it closes", func() bool {
		_ = send(t, s, message("a", "101"))
		return len(s.Status().Troubles) == 0
	})
}

// TestPoison sends a message that its endpoint never takes, among others: its attempts count, and the endpoint is not down.
func TestPoison(t *testing.T) {
	t.Parallel()
	url := plainReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("webhook-id") == "poison" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	s := open(t, to(url))
	for range 20 {
		if err := send(t, s, message("a", "poison")); !says(err, "status 500") || says(err, "snoozed") {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		if err := send(t, s, message("a", "poison")); !says(err, "status 500") || says(err, "snoozed") {
			t.Fatal(err)
		}
		if err := send(t, s, message("a", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	url, _, release := blocked(t)
	s := open(t, to(url))
	answers := make(chan error, 2)
	for i := range 2 {
		s.Send(t.Context(), message("a", fmt.Sprint(i)), func(err error) { answers <- err })
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	if err := <-answers; !says(err, "the sink is closed") {
		t.Error("what waited:", err)
	}
	if err := send(t, s, message("a", "2")); !says(err, "the sink is closed") {
		t.Error("what comes later:", err)
	}
	release()
	if err := <-answers; err != nil {
		t.Error("what ran:", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestSingleOutage has the only endpoint away: that is for the subscription's breaker.
func TestSingleOutage(t *testing.T) {
	t.Parallel()
	s := open(t, webhook.Config{Endpoint: &webhook.Endpoint{URL: deadURL(t), Unsigned: true}})
	if err := send(t, s, &relay.Message{ID: "1"}); !says(err, "outage: ") || !says(err, "connection refused") {
		t.Error(err)
	}
}
