package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// A job is one event to handle, from a window or from a delivery.
type job struct {
	event    *engine.Event
	attempt  int  // this one's number, from 1
	delivery bool // it has a row of its own,
	counted  bool // which says that it runs, and counts this attempt
	suspect  bool // its last worker died while it ran
	err      error
	overdue  *time.Timer // of a parked one: reports a handler that ignores its timeout

	state   atomic.Int32
	started atomic.Int64 // nanoseconds since the batch began
	took    time.Duration
	ended   time.Time // zero when the handler was not called
}

// The states of a job. Its goroutine makes it finished, or the runner makes it parked: whoever is first goes on with its chain.
const (
	waiting int32 = iota
	running
	finished
	parked // it took too long for its window: its handler goes on, and the runner is told when it returns
)

// errBehind marks a job that was not tried, because an earlier one of its key is unfinished.
var errBehind = errors.New("an earlier event of its key is unfinished")

// A batch is the jobs of one turn. They are grouped in chains that run one after the other: those of one key, in their
// order. Jobs without a key run alone. Chains are linked by index, because a slice for each key would cost more than
// handling a small event.
type batch struct {
	jobs  []job
	heads []int32
	next  []int32 // by job; -1 at the end

	begun time.Time
	taken atomic.Int64  // chains that were begun
	left  atomic.Int64  // chains that are neither finished nor parked
	done  chan struct{} // closed when none is left
}

func newBatch(jobs []job) *batch {
	b := &batch{
		jobs: jobs, heads: make([]int32, 0, len(jobs)), next: make([]int32, len(jobs)),
		begun: time.Now(), done: make(chan struct{}),
	}
	tails := make(map[string]int32, min(len(jobs), 1024))
	for i := range jobs {
		b.next[i] = -1
		key := jobs[i].event.Key
		if key == "" {
			b.heads = append(b.heads, int32(i))
			continue
		}
		if tail, ok := tails[key]; ok {
			b.next[tail] = int32(i)
		} else {
			b.heads = append(b.heads, int32(i))
		}
		tails[key] = int32(i)
	}
	if b.left.Store(int64(len(b.heads))); len(b.heads) == 0 {
		close(b.done)
	}
	return b
}

// An executor calls a handler for the jobs of a batch.
type executor struct {
	handler  handlerFunc
	timeout  time.Duration
	stops    func(*job) bool // whether those behind a job, which has not succeeded, have to wait for it
	unparked func(*job)      // called when a parked job has ended
}

// start begins the batch with so many goroutines, of the given group. They end with the batch, but for those whose job
// was parked.
func (b *batch) start(ctx context.Context, group *conc.WaitGroup, x executor, concurrency int) {
	for range min(concurrency, len(b.heads)) {
		b.work(ctx, group, x)
	}
}

// work adds a goroutine that takes one chain after the other.
func (b *batch) work(ctx context.Context, group *conc.WaitGroup, x executor) {
	group.Go(func() {
		lend, end := deadlines(ctx, x.timeout)
		defer end()
		now := time.Since(b.begun)
		for n := b.taken.Add(1) - 1; n < int64(len(b.heads)); n = b.taken.Add(1) - 1 {
			var parked bool
			if now, parked = b.runChain(b.heads[n], now, lend, x); parked {
				return // the runner has begun another goroutine in its place
			}
		}
	})
}

// runChain handles one chain, from now on, and returns when it ended and whether that was because a job of it was parked.
func (b *batch) runChain(head int32, now time.Duration, lend func(time.Duration) context.Context, x executor) (time.Duration, bool) {
	stop := false
	for i := head; i >= 0; i = b.next[i] {
		j := &b.jobs[i]
		ctx := lend(now)
		if stop || ctx.Err() != nil { // it is over: nothing new is begun
			j.err = errBehind
			continue
		}
		j.started.Store(int64(now))
		j.state.Store(running)
		j.err = try(ctx, x.handler, j)
		end := time.Since(b.begun)
		j.took, j.ended, now = end-now, b.begun.Add(end), end // the clock is read once for each event
		stop = j.err != nil && x.stops(j)
		if !j.state.CompareAndSwap(running, finished) {
			x.unparked(j)
			return now, true
		}
	}
	b.finish()
	return now, false
}

func (b *batch) finish() {
	if b.left.Add(-1) == 0 {
		close(b.done)
	}
}

// park parks up to most jobs that have been running for longer than the limit, and marks what is behind them. Those are
// returned. Only the runner calls it.
func (b *batch) park(limit time.Duration, most int) []*job {
	var found []*job
	now := int64(time.Since(b.begun))
	for i := range b.jobs {
		j := &b.jobs[i]
		if len(found) >= most {
			break
		}
		if j.state.Load() != running || now-j.started.Load() < int64(limit) || !j.state.CompareAndSwap(running, parked) {
			continue
		}
		for k := b.next[i]; k >= 0; k = b.next[k] {
			b.jobs[k].err = errBehind
		}
		b.finish()
		found = append(found, j)
	}
	return found
}
