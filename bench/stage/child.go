package stage

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/metrics"
)

// WorkerRole is the first argument of a worker process.
const WorkerRole = "worker"

// A Child is a worker process of a system: this program again, in another role. It says "ready", waits for a line on its standard
// input, works until the input ends, which it also does when its parent dies, and tells what it handles on its standard output.
type Child struct {
	System        string        `help:"The system whose worker to be."`
	URL           string        `help:"The database." required:"" env:"DATABASE_URL"`
	Subscriptions []string      `help:"Whom to deliver to." default:"bench"`
	Sleep         time.Duration `help:"How long a handler takes."`
	Each          bool          `help:"Tell of each event, not only how many there were."`
	Distinct      int64         `help:"Count each of the first so many events once, and no others."`
	Metrics       bool          `help:"Have Signalbox's metrics count and time each event."`
}

// A message is a line from a child.
type message struct {
	Ready   bool  `json:"ready,omitempty"`
	Handled int64 `json:"handled,omitempty"` // so far
	N       int64 `json:"n,omitempty"`       // which event, plus one, if each is told
	At      int64 `json:"at,omitempty"`      // ns
}

// tellEvery is how often a child tells how many events it has handled: the error of a measured time.
const tellEvery = 2 * time.Millisecond

// Run runs it, for one of the systems of its program.
func (c *Child) Run(ctx context.Context, all []systems.System, stdin io.Reader, stdout io.Writer) error {
	s, err := systems.Find(all, c.System)
	if err != nil {
		return err
	}
	pool, err := openPool(ctx, c.URL)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err != nil {
		return err
	}
	counted := func() error { return nil }
	var handled atomic.Int64
	if c.Metrics {
		m := metrics.New(metrics.Config{Pool: pool})
		s, counted = systems.WithHooks(m.Hooks()), func() error { return checkCounted(m, handled.Load()) }
	}
	out := &teller{out: json.NewEncoder(stdout)}
	if err := out.tell(message{Ready: true}); err != nil {
		return err
	}
	input := bufio.NewReader(stdin)
	if _, err := input.ReadString('\n'); err != nil {
		return nil // nobody wants it any more
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, input)
		cancel()
	}()

	once := NewDistinct(c.Distinct)
	changed, working := make(chan struct{}, 1), make(chan struct{})
	told := make(chan error, 1)
	go func() { told <- out.count(&handled, changed, working) }()
	err = s.Run(ctx, pool, c.Subscriptions, func(_ context.Context, payload []byte) error {
		if c.Each {
			if err := out.tell(message{N: Sequence(payload) + 1, At: time.Now().UnixNano()}); err != nil {
				return err
			}
		}
		if c.Sleep > 0 {
			time.Sleep(c.Sleep)
		}
		if c.Distinct == 0 || once.Add(Sequence(payload)) {
			handled.Add(1)
		}
		select {
		case changed <- struct{}{}:
		default:
		}
		return nil
	})
	close(working)
	return errors.Join(err, <-told, counted())
}

// checkCounted returns an error unless a Metrics has counted so many delivered events.
func checkCounted(m *metrics.Metrics, want int64) error {
	registry := prometheus.NewRegistry()
	if err := registry.Register(m); err != nil {
		return err
	}
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	delivered := 0.0
	for _, f := range families {
		for _, series := range f.GetMetric() {
			if f.GetName() == "signalbox_delivered_total" {
				delivered += series.GetCounter().GetValue()
			}
		}
	}
	if delivered != float64(want) {
		return fmt.Errorf("metrics counted %v events, and %d were handled", delivered, want)
	}
	return nil
}

// Distinct knows which of the first events there were.
type Distinct struct {
	seen  []atomic.Bool
	Count atomic.Int64
}

// NewDistinct knows the first n events.
func NewDistinct(n int64) *Distinct { return &Distinct{seen: make([]atomic.Bool, n)} }

// Add returns whether it is the first time.
func (d *Distinct) Add(n int64) bool {
	if n >= int64(len(d.seen)) || !d.seen[n].CompareAndSwap(false, true) {
		return false
	}
	d.Count.Add(1)
	return true
}

// Has returns whether the n-th event was added.
func (d *Distinct) Has(n int64) bool { return n < int64(len(d.seen)) && d.seen[n].Load() }

// teller writes messages of several goroutines.
type teller struct {
	mu  sync.Mutex
	out *json.Encoder
}

func (t *teller) tell(m message) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.out.Encode(m)
}

// count tells the counter after it has changed, until done is closed, and then once more. While nothing changes it sleeps: an idle
// worker is measured, too.
func (t *teller) count(handled *atomic.Int64, changed, done <-chan struct{}) error {
	last := int64(0)
	for working := true; working; {
		select {
		case <-done:
			working = false
		case <-changed:
			time.Sleep(tellEvery)
		}
		if n := handled.Load(); n != last {
			last = n
			if err := t.tell(message{Handled: n, At: time.Now().UnixNano()}); err != nil {
				return err
			}
		}
	}
	return nil
}
