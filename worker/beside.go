package worker

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

const (
	// lookEvery is how often what runs beside the windows is looked at, to park what takes long.
	lookEvery = 50 * time.Millisecond
	// claimWith is which part of the hands has to be free before more deliveries are claimed: a claim for each that is would be
	// a round trip for each delivery.
	claimWith = 4
)

// Deliveries run beside the windows, in batches of their own: a key that has hundreds of them, or slow ones, would else hold up the
// window that they run with, and so all other keys. A batch is what one claim has brought. Its chains are recorded as they end.

// runBeside begins the handlers of deliveries.
func (r *runner) runBeside(ctx context.Context, deliveries []engine.Delivery) {
	jobs := r.deliveryJobs(deliveries)
	if len(jobs) == 0 {
		return
	}
	b := newBatch(jobs)
	b.open = make(map[int32]struct{}, len(b.heads))
	for _, head := range b.heads {
		b.open[head] = struct{}{}
	}
	b.todo = len(b.jobs)
	b.hands = min(r.free(), r.besideAtOnce(b))
	r.beside = append(r.beside, b)
	b.start(ctx, &r.handlers, r.besideExecutor(ctx), b.hands)
}

func (r *runner) besideExecutor(ctx context.Context) executor {
	x := r.executor(ctx)
	x.yield = windowTime
	x.ended = func(b *batch, head int32) {
		r.wake.add(func(w *wakeup) { w.ended = append(w.ended, chain{b, head}) })
	}
	return x
}

// A chain is the deliveries of one key in a batch, by the index of the first, or one without a key.
type chain struct {
	batch *batch
	head  int32
}

// free is how many more handlers may run beside the windows.
func (r *runner) free() int {
	n := r.mayPark()
	for _, b := range r.beside {
		n -= min(b.hands, r.besideAtOnce(b))
	}
	return max(0, n)
}

// besideAtOnce is how many jobs of a batch may run at once, however many hands there are.
func (r *runner) besideAtOnce(b *batch) int {
	if r.sub.pipelined {
		return b.todo
	}
	return len(b.open)
}

// mayClaim reports whether there are hands for more deliveries. Those of transactions and batches run with the windows.
func (r *runner) mayClaim() bool {
	return r.sub.many != nil || r.free() >= max(1, r.sub.Concurrency/claimWith)
}

// recordEnded records the chains that have ended.
func (r *runner) recordEnded(ctx context.Context, ended []chain) {
	for _, c := range ended {
		r.recordChain(ctx, c.batch, c.head)
	}
	if len(ended) > 0 {
		r.tellAttempts(ctx)
	}
}

func (r *runner) recordChain(ctx context.Context, b *batch, head int32) {
	if _, ok := b.open[head]; !ok {
		return
	}
	delete(b.open, head)
	for at := head; at != none; at = b.next[at] {
		b.todo--
		r.record(ctx, &b.jobs[at])
	}
	r.goOnUnbegun(b, head)
	if len(b.open) == 0 {
		r.beside = slices.DeleteFunc(r.beside, func(other *batch) bool { return other == b })
		r.trust(b.jobs)
	}
}

// goOnUnbegun has the line of a chain that has ended go on at once if its first delivery was not begun: nothing of its key runs.
func (r *runner) goOnUnbegun(b *batch, head int32) {
	if first := &b.jobs[head]; first.behind && first.delivery {
		r.backlog.retry(lineOf(first.event), time.Now())
	}
}

// lookBeside parks what runs beside the windows and takes long: its row says so from then on, and another one has its place.
func (r *runner) lookBeside(ctx context.Context) {
	if len(r.beside) == 0 || time.Since(r.lookedAt) < lookEvery {
		return
	}
	r.lookedAt = time.Now()
	for _, b := range slices.Clone(r.beside) {
		r.parkBeside(ctx, b, r.sub.ParkAfter, r.mayPark())
	}
}

func (r *runner) parkBeside(ctx context.Context, b *batch, limit time.Duration, most int) {
	for _, j := range b.park(limit, most, 0) {
		r.park(b, j)
		for head := range b.open {
			if b.has(head, j) {
				r.recordChain(ctx, b, head)
				break
			}
		}
		if b.taken.Load() < int64(len(b.heads)) {
			b.work(ctx, &r.handlers, r.besideExecutor(ctx))
		}
	}
}

// endBeside parks all that runs beside the windows, and leaves what has not begun to later: its lanes may change hands.
func (r *runner) endBeside(ctx context.Context) {
	for _, b := range slices.Clone(r.beside) {
		b.end()
		for waiting := true; waiting; {
			r.parkBeside(ctx, b, 0, len(b.jobs))
			select {
			case <-b.done:
				waiting = false
			case <-time.After(time.Millisecond): // those that have not begun are told
			}
		}
		for _, head := range slices.Sorted(maps.Keys(b.open)) {
			r.recordChain(ctx, b, head)
		}
	}
	r.tellAttempts(ctx)
}

// tried lists the deliveries that are tried for the first time right now: of those, only the member's row says that they are.
func (r *runner) tried() []int64 {
	var ids []int64
	for j := range r.openJobs() {
		if !j.counted {
			ids = append(ids, j.event.ID)
		}
	}
	return ids
}

// openJobs are the jobs of chains that are not recorded yet.
func (r *runner) openJobs() func(yield func(*job) bool) {
	return func(yield func(*job) bool) {
		for _, b := range r.beside {
			for head := range b.open {
				for at := head; at != none; at = b.next[at] {
					if !yield(&b.jobs[at]) {
						return
					}
				}
			}
		}
	}
}
