package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/signalbox-go/signalbox/outbox"
)

// A job is one event to handle, from a window or from a delivery.
type job struct {
	event   outbox.Event
	attempt int // this one's number, from 1
	err     error
}

// errBehind marks a job that was not tried, because an earlier one of its key failed.
var errBehind = errors.New("an earlier event of its key is unfinished")

// chains groups jobs that must run one after the other: those of one key, in their order. Jobs without a key run
// alone. The jobs are linked by index, because a slice for each key would cost more than handling a small event.
type chains struct {
	heads []int32
	next  []int32 // by job; -1 at the end
}

func chain(jobs []job) chains {
	c := chains{heads: make([]int32, 0, len(jobs)), next: make([]int32, len(jobs))}
	tails := make(map[string]int32, min(len(jobs), 1024))
	for i := range jobs {
		c.next[i] = -1
		key := jobs[i].event.Key
		if key == "" {
			c.heads = append(c.heads, int32(i))
			continue
		}
		if tail, ok := tails[key]; ok {
			c.next[tail] = int32(i)
		} else {
			c.heads = append(c.heads, int32(i))
		}
		tails[key] = int32(i)
	}
	return c
}

// runJobs handles all jobs, in chains, and sets each one's err. At most concurrency handlers run at once.
func runJobs(ctx context.Context, jobs []job, handler handlerFunc, concurrency int, timeout time.Duration) {
	c := chain(jobs)
	var taken atomic.Int64
	// One task for each goroutine and not for each event: they take the next chain themselves.
	tasks := pool.New().WithMaxGoroutines(concurrency)
	for range min(concurrency, len(c.heads)) {
		tasks.Go(func() {
			lend, end := deadlines(ctx, timeout)
			defer end()
			for n := taken.Add(1) - 1; n < int64(len(c.heads)); n = taken.Add(1) - 1 {
				failed := false
				for i := c.heads[n]; i >= 0; i = c.next[i] {
					if failed {
						jobs[i].err = errBehind
						continue
					}
					jobs[i].err = try(lend(), handler, &jobs[i])
					failed = jobs[i].err != nil
				}
			}
		})
	}
	tasks.Wait()
}
