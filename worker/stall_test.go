package worker_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// stalls returns how long, so far, the process or the server has stood still because the machine was busy with something else. What a test
// asserts of times is true but for that.
func stalls(t *testing.T, conn *pgx.Conn) (sum func() time.Duration) {
	t.Helper()
	const pause, usual = 10 * time.Millisecond, 40 * time.Millisecond
	var (
		total    atomic.Int64
		looking  sync.WaitGroup
		ctx, end = context.WithCancel(t.Context())
	)
	looking.Go(func() {
		for ctx.Err() == nil {
			begun := time.Now()
			time.Sleep(pause) // what is measured is how much longer it takes
			_, _ = conn.Exec(ctx, "select")
			if took := time.Since(begun); took > usual {
				total.Add(int64(took))
			}
		}
	})
	t.Cleanup(func() { end(); looking.Wait() })
	return func() time.Duration { return time.Duration(total.Load()) }
}
