package worker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// superviseFirst is the pause before a part of the sentinel's work is tried again that failed, superviseLongest where pauses stop growing.
	superviseFirst, superviseLongest = time.Second, time.Minute
)

// supervise keeps a part of the sentinel's work going that the worker can do without: the doorbell, without which events wait for the
// next poll, and housekeeping. Both need connections, which may not be there, and must not cost the session those that
// it serves with. It returns when ctx is cancelled.
func supervise(ctx context.Context, log *slog.Logger, work func(ctx context.Context, log *slog.Logger, works func()) error) {
	pause, failing := superviseFirst, false
	for {
		worked := time.Now().Add(superviseLongest)
		err := work(ctx, log, func() {
			if worked = time.Now(); failing {
				log.Info("the sentinel does this part of its work again")
			}
			failing = false
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(worked) > superviseLongest {
			pause = superviseFirst
		}
		level := slog.LevelDebug
		if !failing {
			level = slog.LevelWarn
		}
		failing = true
		log.Log(ctx, level, "the sentinel goes on without this part of its work, and will try again: without the doorbell, events wait "+
			"for the next poll; without housekeeping, nothing expires", "retry_in", pause, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, superviseLongest)
	}
}
