package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// A job is one event to handle, from a window or from a delivery.
type job struct {
	event    *engine.Event
	attempt  int         // this one's number, from 1
	delivery bool        // it has a row of its own,
	counted  bool        // which says that it runs, and counts this attempt
	suspect  bool        // its last worker died while it ran
	failedAt time.Time   // when an attempt at it failed for the first time, before this one; zero where none has
	noted    bool        // its row has the failure already
	probe    bool        // it is of a topic that the breaker is open for
	failure  *failure    // nil where it succeeded, or was not called
	behind   bool        // it was not tried: an earlier one of its key is unfinished, its window is out of time, or nothing may begin
	chance   float64     // of its delay's jitter, where it shares that with the others of a call: they are tried again in one; else 0
	overdue  *time.Timer // of a parked one: reports a handler that ignores its timeout

	decided *engine.Unfinished // what becomes of it, after the failure that was
	cause   *failure           // decided about: see verdict

	flight *flight // of one that is answered later

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
	parked    // it took too long for its window: its handler goes on, and the runner is told when it returns
	admitting // it is the next to begin, and waits until it may: see dispatcher
)

// jobPool has slices of jobs that were handled. Those of a window take half a megabyte, which would be garbage a few milliseconds later.
var jobPool sync.Pool

// used returns an empty slice of jobs, which has the room of one that was handled.
func used() []job {
	if jobs, ok := jobPool.Get().(*[]job); ok {
		return *jobs
	}
	return nil
}

// reuse takes jobs that nobody goes on with.
func reuse(jobs []job) {
	clear(jobs)
	jobs = jobs[:0]
	jobPool.Put(&jobs)
}

// snoozed reports whether the handler has asked to be called again, without a failure.
func (j *job) snoozed() bool {
	return !j.behind && j.failure != nil && j.failure.outcome != nil && (j.failure.outcome.kind == snooze || j.failure.outcome.kind == pause)
}

// done reports whether the job's event was handled.
func (j *job) done() bool { return j.failure == nil && !j.behind }

// A batch is the jobs of a window, or of a claim. They are grouped in chains that run one after the other: those of one key, in their
// order. Jobs without a key run alone. Chains are linked by index, because a slice for each key would cost more than
// handling a small event.
type batch struct {
	jobs  []job
	heads []int32
	next  []int32 // by job; none at the end

	begun time.Time
	taken atomic.Int64  // chains that were begun
	left  atomic.Int64  // chains that are neither finished nor parked
	over  atomic.Bool   // nothing new is begun
	done  chan struct{} // closed when none is left

	dispatcher *dispatcher // begins the jobs of a handler that answers later

	// Of a batch of deliveries, which is not waited for:
	open  map[int32]struct{} // the heads of chains that are not recorded,
	todo  int                // and how many jobs they have
	hands int                // how many jobs may run at once
}

func newBatch(jobs []job) *batch {
	b := &batch{
		jobs: jobs, heads: make([]int32, 0, len(jobs)), next: make([]int32, len(jobs)),
		begun: time.Now(), done: make(chan struct{}),
	}
	tails := make(map[string]int32, min(len(jobs), 1024))
	for i := range jobs {
		b.next[i] = none
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
	handler   handlerFunc
	begin     beginFunc // in place of handler, where it answers later
	pipelined bool      // whether begin is called for a key before it has answered
	timeout   time.Duration
	stops     func(*job) bool                    // whether those behind a job, which has not succeeded, have to wait for it
	unparked  func(*job)                         // called when a parked job has ended
	tell      func(ended func(error), why error) // calls what AsyncMiddleware wants called with an answer

	inFlight *atomic.Int64 // counts what begin has begun and was not answered

	paused func() bool              // whether nothing may begin
	admit  func(end time.Time) bool // waits until an attempt may begin; nil where it always may

	yield time.Duration              // how long a chain goes on, where that has a limit
	ended func(b *batch, head int32) // called when a chain has ended, where that is not waited for
}

// start begins the batch with so many goroutines, of the given group, or so many jobs in flight. They end with the batch, but for those whose job
// was parked.
func (b *batch) start(ctx context.Context, group *sync.WaitGroup, x executor, concurrency int) {
	if x.begin != nil {
		b.dispatcher = newDispatcher(ctx, b, group, x, concurrency)
		b.dispatcher.start()
		return
	}
	for range min(concurrency, len(b.heads)) {
		b.work(ctx, group, x)
	}
}

// end has nothing begin any more.
func (b *batch) end() {
	if b.over.Store(true); b.dispatcher != nil {
		b.dispatcher.end()
	}
}

// work adds a goroutine that takes one chain after the other, in place of one whose job was parked. A dispatcher has gone on by itself.
func (b *batch) work(ctx context.Context, group *sync.WaitGroup, x executor) {
	if b.dispatcher != nil {
		return
	}
	h := &hand{b: b, x: x, group: group, at: none, rest: none}
	group.Go(func() { h.work(ctx) })
}

// A hand is a goroutine that runs chains. If a handler ends it, another one goes on in its place.
type hand struct {
	b     *batch
	x     executor
	group *sync.WaitGroup
	now   time.Duration // since the batch began: the clock is read once for each event
	at    int32         // the job whose handler was called, and has not returned
	head  int32         // of the chain
	since time.Duration // when the chain was begun
	rest  int32         // of the chain: where to go on
	stop  bool          // whether the rest of the chain has to wait
}

// none is no job.
const none int32 = -1

func (h *hand) work(ctx context.Context) {
	defer h.replace(ctx)
	lend, end := deadlines(ctx, h.x.timeout)
	defer end()
	h.now = time.Since(h.b.begun)
	for h.rest != none || h.next() {
		if !h.runChain(lend) {
			return // the runner has begun another goroutine in its place
		}
	}
}

// next takes a chain that nothing has begun.
func (h *hand) next() bool {
	n := h.b.taken.Add(1) - 1
	if n >= int64(len(h.b.heads)) {
		return false
	}
	h.head, h.since, h.stop = h.b.heads[n], h.now, false
	h.rest = h.head
	return true
}

// replace begins another goroutine where a handler has ended this one: nothing can keep it from that, and a goroutine for each event
// would cost more than handling a small one.
func (h *hand) replace(ctx context.Context) {
	if h.at == none {
		return
	}
	other := *h
	if j := &h.b.jobs[h.at]; !other.conclude(j, errGoexit) {
		return
	}
	if other.rest == none {
		h.finish()
	}
	h.group.Go(func() { other.work(ctx) })
}

// runChain handles the rest of a chain, and reports false when a job of it was parked meanwhile.
func (h *hand) runChain(lend func(time.Duration) context.Context) bool {
	for h.rest != none {
		j := &h.b.jobs[h.rest]
		at := h.rest
		h.rest = h.b.next[at]
		ctx := lend(h.now)
		if h.stop || ctx.Err() != nil || h.b.over.Load() || h.x.paused() || h.x.yield > 0 && h.now-h.since > h.x.yield { // nothing new is begun
			j.behind, h.stop = true, true // also if that is over soon: what is behind it in its key waits for it
			continue
		}
		if h.x.admit != nil {
			if !h.x.admit(h.b.begun.Add(h.since + windowTime)) {
				j.behind, h.stop = true, true
				continue
			}
			h.now = time.Since(h.b.begun)
			if h.b.over.Load() {
				j.behind, h.stop = true, true
				continue
			}
			ctx = lend(h.now)
		}
		j.started.Store(int64(h.now))
		j.state.Store(running)
		h.at = at
		f := try(ctx, h.x.handler, j)
		if !h.conclude(j, f) {
			return false
		}
	}
	h.finish()
	return true
}

// finish notes that the chain has ended.
func (h *hand) finish() {
	h.b.finish()
	if h.x.ended != nil {
		h.x.ended(h.b, h.head)
	}
}

// conclude notes what became of the job whose handler was called, and reports false when it was parked meanwhile.
func (h *hand) conclude(j *job, f *failure) bool {
	end := time.Since(h.b.begun)
	j.failure, j.took, j.ended, h.now = f, end-h.now, h.b.begun.Add(end), end
	h.stop = f != nil && h.x.stops(j)
	h.at = none
	if !j.state.CompareAndSwap(running, finished) {
		h.x.unparked(j)
		return false
	}
	return true
}

func (b *batch) finish() {
	if b.left.Add(-1) == 0 {
		close(b.done)
	}
}

// has reports whether a job is one of a chain.
func (b *batch) has(head int32, j *job) bool {
	for at := head; at != none; at = b.next[at] {
		if &b.jobs[at] == j {
			return true
		}
	}
	return false
}

// park parks up to most jobs that have been running for longer than the limit, and marks what is behind them. Those are returned. With a
// rest, it parks only those whose chain would take that long with what is behind them. Only the runner calls it.
func (b *batch) park(limit time.Duration, most int, rest time.Duration) []*job {
	if b.dispatcher != nil {
		return b.dispatcher.park(limit, most, rest)
	}
	var found []*job
	now := int64(time.Since(b.begun))
	for i := range b.jobs {
		j := &b.jobs[i]
		if len(found) >= most {
			break
		}
		if j.state.Load() != running || now-j.started.Load() < int64(limit) || rest > 0 && b.behindTakes(i, now) < rest {
			continue
		}
		if !j.state.CompareAndSwap(running, parked) {
			continue
		}
		for k := b.next[i]; k >= 0; k = b.next[k] {
			b.jobs[k].behind = true
		}
		b.finish()
		found = append(found, j)
	}
	return found
}

// behindTakes estimates how long what is behind a running job in its chain takes: as long for each as the job itself has taken so far.
func (b *batch) behindTakes(i int, now int64) time.Duration {
	n := 0
	for k := b.next[i]; k >= 0; k = b.next[k] {
		n++
	}
	return time.Duration(n) * time.Duration(now-b.jobs[i].started.Load())
}
