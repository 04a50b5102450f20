// Package drive sends messages to a sink as the relay does, strictly: one of each key is in flight, and one that fails is sent again. It
// compares what was sent with what arrived.
package drive

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/relay"
)

// Load is what to send.
type Load struct {
	Keys, PerKey int
	Destination  string
	Pause        time.Duration // before a message is sent again; defaults to 20 ms
}

// A Run sends a load.
type Run struct {
	load  Load
	done  atomic.Int64
	fails atomic.Int64
	twice atomic.Int64 // answers beyond the first
	last  atomic.Value // the last error
	ended chan struct{}
}

// ID is that of a message of a load.
func ID(key, n int) string { return fmt.Sprintf("%03d-%05d", key, n) }

// Start begins to send. It goes on until everything is acknowledged, or the test ends.
func (l Load) Start(t testing.TB, sink relay.Sink) *Run {
	t.Helper()
	if l.Pause == 0 {
		l.Pause = 20 * time.Millisecond
	}
	r := &Run{load: l, ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		<-r.ended
		if n := r.twice.Load(); n > 0 {
			t.Errorf("done was called once more for %d messages", n)
		}
	})
	var keys sync.WaitGroup
	for key := range l.Keys {
		keys.Go(func() { r.sendKey(ctx, sink, key) })
	}
	go func() {
		defer close(r.ended)
		keys.Wait()
	}()
	return r
}

func (r *Run) sendKey(ctx context.Context, sink relay.Sink, key int) {
	for n := range r.load.PerKey {
		for attempt := 1; ; attempt++ {
			err := r.send(ctx, sink, &relay.Message{
				ID: ID(key, n), Key: fmt.Sprint(key), Destination: r.load.Destination, Body: []byte(ID(key, n)), Attempt: attempt,
			})
			if err == nil {
				r.done.Add(1)
				break
			}
			r.fails.Add(1)
			r.last.Store(err.Error())
			select {
			case <-ctx.Done():
				return
			case <-time.After(r.load.Pause):
			}
		}
	}
}

func (r *Run) send(ctx context.Context, sink relay.Sink, m *relay.Message) error {
	answer := make(chan error, 1)
	sink.Send(ctx, m, func(err error) {
		select {
		case answer <- err:
		default:
			r.twice.Add(1)
		}
	})
	return <-answer
}

// Done returns how many messages are acknowledged, and how many attempts have failed.
func (r *Run) Done() (acknowledged, failed int64) { return r.done.Load(), r.fails.Load() }

// LastError returns the text of the last failure.
func (r *Run) LastError() string {
	text, _ := r.last.Load().(string)
	return text
}

// Wait waits until everything is acknowledged.
func (r *Run) Wait(t testing.TB) {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(2 * time.Minute):
		done, failed := r.Done()
		t.Fatalf("acknowledged %d of %d, with %d failures, the last: %s", done, r.load.Keys*r.load.PerKey, failed, r.LastError())
	}
	if got := r.done.Load(); got != int64(r.load.Keys*r.load.PerKey) {
		t.Fatalf("acknowledged %d of %d", got, r.load.Keys*r.load.PerKey)
	}
}

// Compare compares what arrived, in order, with what was sent: nothing lost, nothing that was not sent, and the first occurrences of each
// key in order. It returns how many arrived again.
func (l Load) Compare(t testing.TB, arrived []string) (again int) {
	t.Helper()
	next := make([]int, l.Keys)
	seen := map[string]bool{}
	for _, id := range arrived {
		if seen[id] {
			again++
			continue
		}
		seen[id] = true
		var key, n int
		if _, err := fmt.Sscanf(id, "%d-%d", &key, &n); err != nil || key >= l.Keys || n >= l.PerKey {
			t.Fatalf("%q arrived, and was never sent", id)
		}
		if n != next[key] {
			t.Fatalf("%s arrived, before %s", id, ID(key, next[key]))
		}
		next[key]++
	}
	if lost := l.Keys*l.PerKey - len(seen); lost != 0 {
		t.Fatalf("%d messages are lost", lost)
	}
	return again
}

// Send sends one message, and returns what it ends with.
func Send(t testing.TB, sink relay.Sink, m *relay.Message) error {
	t.Helper()
	answers := make(chan error, 2)
	sink.Send(t.Context(), m, func(err error) { answers <- err })
	select {
	case err := <-answers:
		return err
	case <-time.After(time.Minute):
		t.Fatal("no answer")
		return nil
	}
}
