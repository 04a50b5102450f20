package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestSlowToSubscribe has a worker start with new subscriptions at a server that takes long for each: it starts, although all of them together
// take longer than one may.
func TestSlowToSubscribe(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Pool.Exec(t.Context(), `
		create function public.slowly() returns trigger language plpgsql as 'begin perform pg_sleep(4); return new; end';
		create trigger slowly before insert on outbox.subscriptions for each row execute function public.slowly()`); err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := worker.Handle(w, worker.Subscription{Name: fmt.Sprint("s", i), Topics: everything}, func(context.Context, *worker.Event[payload]) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	runUntilStopped(t, w)
	eventually(t, time.Minute, "it serves", func() bool { return w.Ready() == nil })
}
