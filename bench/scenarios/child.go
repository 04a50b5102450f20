package scenarios

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/systems"
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

// Run runs it.
func (c *Child) Run(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	s, err := systems.Find(c.System)
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

	var handled atomic.Int64
	changed, working := make(chan struct{}, 1), make(chan struct{})
	told := make(chan error, 1)
	go func() { told <- out.count(&handled, changed, working) }()
	err = s.Run(ctx, pool, c.Subscriptions, func(_ context.Context, payload []byte) error {
		if c.Each {
			if err := out.tell(message{N: sequence(payload) + 1, At: time.Now().UnixNano()}); err != nil {
				return err
			}
		}
		if c.Sleep > 0 {
			time.Sleep(c.Sleep)
		}
		handled.Add(1)
		select {
		case changed <- struct{}{}:
		default:
		}
		return nil
	})
	close(working)
	return errors.Join(err, <-told)
}

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
