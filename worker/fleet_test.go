package worker_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestFleetIsSpared publishes at a rate at which publishers notify a single worker. Once there are 60 more, each notification would wake
// all of them: the sentinel looks for itself.
func TestFleetIsSpared(t *testing.T) {
	t.Parallel()
	const others = 60
	db := pgtest.New(t)
	l := newLedger()
	start(t, db.Pool, worker.Config{}, worker.Subscription{Name: "s", Topics: everything}, record(l))
	published, stop, stopped := 0, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.Tick(10 * time.Millisecond); ; published++ {
			select {
			case <-stop:
				return
			case <-tick:
				_, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "test.happened", Key: fmt.Sprintf("k%d", published), Payload: json.RawMessage(`{}`)})
				switch {
				case t.Context().Err() != nil:
					return // the test has failed
				case err != nil:
					t.Errorf("publish: %v", err)
					return
				}
			}
		}
	}()
	waitArmed(t, db.Pool)
	conn := db.Conn(t)
	for range others {
		if _, err := engine.Join(t.Context(), conn, "other", true, time.Hour, nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 30*time.Second, "the doorbell polls", func() bool {
		s, err := admin.GetStatus(t.Context(), db.Pool)
		return err == nil && s.Doorbell == "polling"
	})
	close(stop)
	<-stopped
	l.waitFor(t, published)
}
