package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestFailuresInLog has many events fail within moments: each is counted in the log, in at most one line a second for those that are tried
// again and one for dead letters.
func TestFailuresInLog(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			const all = 300
			db := pgtest.New(t)
			publishNumbered(t, db, 2*all, func(i int) string { return fmt.Sprint("key-", i) })
			var log syncBuffer
			w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			s := worker.Subscription{
				Name: "s", Topics: everything, BreakerAfter: worker.Unlimited,
				Retry: worker.Retry{Delay: func(int) time.Duration { return time.Millisecond }},
			}
			err = f.register(w, s, db, func(_ context.Context, _ execer, e *worker.Event[payload]) error {
				switch {
				case e.Payload.N%2 == 0:
					return worker.DeadLetter(errors.New("never"))
				case e.Attempt == 1:
					return errors.New("once")
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			stop := runUntilStopped(t, w)
			eventually(t, 60*time.Second, "all is handled", func() bool { return settledAll(t, db.Pool) && len(rows(t, db)) == all })
			stop()
			lines, told := map[string]int{}, map[string]int{}
			for text := range strings.Lines(log.String()) {
				var line struct {
					Level   string
					EventID int64 `json:"event_id"`
					Others  int
				}
				if err := json.Unmarshal([]byte(text), &line); err != nil {
					t.Fatal(err)
				}
				if line.EventID != 0 {
					lines[line.Level]++
					told[line.Level] += 1 + line.Others
				}
			}
			most := 2 + int(time.Since(begun)/time.Second) // the last one comes when it stops
			for _, level := range []string{"WARN", "ERROR"} {
				if lines[level] > most || told[level] < all {
					t.Errorf("%d lines of level %s about %d events, want at most %d about %d", lines[level], level, told[level], most, all)
				}
			}
			if told["ERROR"] != all {
				t.Errorf("%d dead letters were told of, want %d", told["ERROR"], all)
			}
		})
	}
}
