package webhook_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/webhook"
)

// A ledger has what receivers got: the ids, by endpoint and key, in order.
type ledger struct {
	mu    sync.Mutex
	lines map[string][]string
}

func (l *ledger) note(r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := r.URL.Path + " " + r.Header.Get("key")
	l.lines[line] = append(l.lines[line], r.Header.Get("webhook-id"))
}

// A courier sends messages as a worker does: those of a line one after the other, and again those that are put off.
type courier struct {
	sink     *webhook.Sink
	inFlight chan struct{}
	open     sync.WaitGroup
	mu       sync.Mutex
	answers  map[string][]error // by endpoint
	left     map[string]int     // messages that are not delivered, by endpoint
}

// carry sends a line of messages.
func (c *courier) carry(t *testing.T, line []*relay.Message) {
	if len(line) == 0 {
		return
	}
	c.open.Go(func() {
		c.inFlight <- struct{}{}
		var answered atomic.Bool
		c.open.Add(1)
		c.sink.Send(t.Context(), line[0], func(err error) {
			defer c.open.Done()
			<-c.inFlight
			if answered.Swap(true) {
				t.Error("answered twice")
			}
			name := line[0].Destination
			c.mu.Lock()
			c.answers[name] = append(c.answers[name], err)
			if err == nil {
				c.left[name]--
			}
			c.mu.Unlock()
			switch {
			case err == nil:
				c.carry(t, line[1:])
			case t.Context().Err() == nil:
				delay := 50 * time.Millisecond
				if _, after, found := strings.Cut(err.Error(), "snoozed for "); found {
					delay, _ = time.ParseDuration(after)
				}
				c.open.Add(1)
				time.AfterFunc(delay, func() {
					defer c.open.Done()
					c.carry(t, line)
				})
			}
		})
	})
}

// delivered reports whether everything of these endpoints has arrived.
func (c *courier) delivered(names []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(names, func(name string) bool { return c.left[name] > 0 })
}

// TestThousandEndpoints has 10 of 1,000 dead, 10 slow for ever and 10 that say 429. The other 970 get everything meanwhile, in order, at the
// first attempt, but for a few if the machine has much to do. Then the 30 are mended, and get everything, too.
func TestThousandEndpoints(t *testing.T) {
	t.Parallel()
	const each, keys, perLine, requests, inFlight = 10, 3, 3, 32, 200
	arrived := &ledger{lines: map[string][]string{}}
	var running, tooMany, refusals atomic.Int64
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
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer running.Add(-1)
		if running.Add(1) > requests {
			tooMany.Add(1)
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/slow"):
			select {
			case <-mended:
			case <-r.Context().Done():
				return
			}
		case strings.HasPrefix(r.URL.Path, "/busy") && !isMended():
			refusals.Add(1)
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		arrived.note(r)
	})
	hooks := plainReceiver(t, handler)
	dead := deadURL(t)

	endpoints := map[string]webhook.Endpoint{}
	var fine, bad []string
	for i := range 1000 {
		kind, url := "fine", hooks
		switch {
		case i < each:
			kind, url = "dead", dead
		case i < 2*each:
			kind = "slow"
		case i < 3*each:
			kind = "busy"
		}
		name := fmt.Sprint(kind, i)
		endpoints[name] = webhook.Endpoint{URL: url + "/" + name, Unsigned: true, Timeout: patience}
		if kind == "fine" {
			fine = append(fine, name)
		} else {
			bad = append(bad, name)
		}
	}
	cfg := byName(endpoints)
	cfg.Concurrency = requests
	s := open(t, cfg)
	t.Cleanup(mend) // before the sink is closed, or it waits for the slow ones
	c := &courier{sink: s, inFlight: make(chan struct{}, inFlight), answers: map[string][]error{}, left: map[string]int{}}
	want := map[string][]string{}
	id, begun := 0, time.Now()
	for _, name := range append(slices.Clone(bad), fine...) { // the bad ones first: they would hold up all others
		for k := range keys + 1 {
			key := ""
			if k > 0 {
				key = fmt.Sprint("k", k)
			}
			var line []*relay.Message
			for range perLine {
				id++
				m := message(name, fmt.Sprint(id))
				m.Key, m.Headers = key, map[string]string{"key": key}
				line = append(line, m)
				want["/"+name+" "+key] = append(want["/"+name+" "+key], m.ID)
			}
			c.mu.Lock()
			c.left[name] += perLine
			c.mu.Unlock()
			c.carry(t, line)
		}
	}
	eventually(t, "the healthy endpoints have everything while the others have nothing", func() bool { return c.delivered(fine) })
	c.mu.Lock()
	late := 0
	for _, name := range fine {
		for _, err := range c.answers[name] {
			switch {
			case err == nil:
			case says(err, "has much to do"): // so has this machine
				late++
			default:
				t.Errorf("%s is held up by others: %v", name, err)
			}
		}
	}
	if late > len(fine) { // of twelve times as many messages
		t.Errorf("%d messages have waited long", late)
	}
	for _, name := range bad {
		for _, err := range c.answers[name] {
			if err == nil || !strings.Contains(err.Error(), "snoozed for ") {
				t.Errorf("%s has an answer that counts: %v", name, err)
			}
		}
	}
	c.mu.Unlock()
	if len(s.Status().Troubles) != 2*each {
		t.Errorf("%d endpoints are in trouble, want %d", len(s.Status().Troubles), 2*each)
	}
	refused, probes := refusals.Load(), int64(40+time.Since(begun)/time.Second)

	listener, err := net.Listen("tcp", strings.TrimPrefix(dead, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	risen := httptest.NewUnstartedServer(handler)
	_ = risen.Listener.Close()
	risen.Listener = listener
	risen.Start()
	t.Cleanup(risen.Close)
	mend()
	eventually(t, "the others have everything, too", func() bool { return c.delivered(bad) })
	c.open.Wait()
	for line, ids := range want {
		if !slices.Equal(arrived.lines[line], ids) {
			t.Errorf("%s got %v, want %v", line, arrived.lines[line], ids)
		}
	}
	// Each probe of each endpoint is one request; without a breaker, each message would be one, over and over.
	if tooMany.Load() > 0 || refused > each*probes {
		t.Errorf("%d requests too many at once, %d refused", tooMany.Load(), refused)
	}
	if status := s.Status(); status.Running != 0 || status.Waiting != 0 || len(status.Troubles) != 0 {
		t.Errorf("at the end: %+v", status)
	}
}
