package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestLongErrors has handlers fail with 5 MB, as the body of a response may have, in one line; hooks and Retry.Delay panic with as much. What is
// logged is as short as what is kept with the delivery.
func TestLongErrors(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5<<20)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			log := &lines{}
			w, err := worker.New(db.Pool, worker.Config{
				Logger: slog.New(slog.NewTextHandler(log, nil)),
				Hooks:  []worker.Hooks{{AttemptEnded: func(context.Context, worker.Attempt) { panic(long) }}},
			})
			if err != nil {
				t.Fatal(err)
			}
			s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 3, Delay: func(failed int) time.Duration {
				if failed == 1 {
					panic(long)
				}
				return time.Millisecond
			}, InitialInterval: time.Millisecond}}
			attempts := 0
			err = f.register(w, s, db, func(context.Context, execer, *worker.Event[payload]) error {
				if attempts++; attempts%2 == 0 {
					panic(long)
				}
				return errors.New(long)
			})
			if err != nil {
				t.Fatal(err)
			}
			publish(t, db.Pool, "k", 0, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()
			eventually(t, time.Minute, "a dead letter", func() bool { return log.has("dead letter") })
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			for line := range strings.Lines(log.String()) {
				if len(line) > 9<<10 {
					t.Errorf("a line of %d bytes: %.200s …", len(line), line)
				}
			}
			list, err := admin.ListDeliveries(t.Context(), db.Pool, admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Dead}}, admin.ListOptions{Limit: 1})
			if err != nil || len(list.Items) != 1 || len(list.Items[0].Failures) != 3 {
				t.Fatalf("%+v, %v", list, err)
			}
			for _, failure := range list.Items[0].Failures {
				if len(failure.Error) > 9<<10 {
					t.Errorf("an error of %d bytes is kept", len(failure.Error))
				}
			}
		})
	}
}
