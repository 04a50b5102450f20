package admin_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// TestLastWorkerDies has the last worker killed, or frozen, so that no other one evicts it: all that is told says so.
func TestLastWorkerDies(t *testing.T) {
	t.Parallel()
	for name, frozen := range map[string]bool{"killed": false, "frozen": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := pgtest.New(t)
			s := enginetest.Subscribe(t, db, "a.>", "a")
			conn := db.Conn(t)
			id, err := engine.Join(ctx, conn, "last", true, time.Hour, []int32{s.ID})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := engine.NewMember(db.Conn(t), id, s).Claim(ctx, engine.Lanes); err != nil {
				t.Fatal(err)
			}
			if _, err := engine.Beat(ctx, conn, id, true); err != nil { // it is the sentinel
				t.Fatal(err)
			}
			enginetest.Publish(t, db.Pool, "k")

			glance := func() *admin.Status {
				t.Helper()
				status, err := admin.Glance(ctx, db.Pool)
				if err != nil {
					t.Fatal(err)
				}
				return status
			}
			if status := glance(); !status.Workers[0].Live || len(status.Concerns) != 0 || status.Subscriptions[0].Lanes["last"] != engine.Lanes {
				t.Errorf("while it lives: %+v", status)
			}
			var served *admin.ServedError
			if err := admin.DeleteSubscription(ctx, db.Pool, s.Name, false); !errors.As(err, &served) || !slices.Equal(served.Workers, []string{"last"}) {
				t.Errorf("while it lives, deleting ends with %v", err)
			}

			if frozen {
				_, err = db.Pool.Exec(ctx, `update outbox.workers set seen_at = clock_timestamp() - lease - interval '1 s'`)
			} else {
				err = conn.Close(ctx)
			}
			if err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(10 * time.Second); glance().Workers[0].Live && time.Now().Before(deadline); { // its session ends soon
			}
			status := glance()
			if c := status.Concerns; len(c) != 1 || c[0].Kind != admin.ConcernUnserved || c[0].Events != 1 {
				t.Errorf("concerns: %+v", c)
			}
			if lanes := status.Subscriptions[0].Lanes; len(lanes) != 1 || lanes[""] != engine.Lanes {
				t.Errorf("lanes: %v", lanes)
			}
			if status.Doorbell != "unattended" {
				t.Errorf("the doorbell is %s", status.Doorbell)
			}
			list, err := admin.Subscriptions(ctx, db.Pool)
			if err != nil || len(list[0].Workers) != 0 || list[0].Owned != 0 {
				t.Errorf("got %+v, %v", list, err)
			}
			lanes, err := admin.LaneRows(ctx, db.Pool, s.Name)
			if err != nil || slices.ContainsFunc(lanes, func(l admin.LaneRow) bool { return l.Owner != "" }) {
				t.Errorf("got %+v, %v", lanes, err)
			}
			if err := admin.DeleteSubscription(ctx, db.Pool, s.Name, false); err != nil {
				t.Error(err)
			}
		})
	}
}
