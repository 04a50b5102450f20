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
				status, err := admin.GetStatusUpTo(ctx, db.Pool, 1000)
				if err != nil {
					t.Fatal(err)
				}
				return status
			}
			if status := glance(); !status.Workers[0].Live || len(status.Concerns) != 0 || status.Subscriptions[0].Lanes[status.Workers[0].ID] != engine.Lanes {
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
			for deadline := time.Now().Add(time.Minute); glance().Workers[0].Live && time.Now().Before(deadline); {
				<-time.After(10 * time.Millisecond) // its session ends soon
			}
			status := glance()
			if c := status.Concerns; len(c) != 1 || c[0].Kind != admin.ConcernUnserved || c[0].Events != 1 {
				t.Errorf("concerns: %+v", c)
			}
			if lanes := status.Subscriptions[0].Lanes; len(lanes) != 1 || lanes[0] != engine.Lanes {
				t.Errorf("lanes: %v", lanes)
			}
			if status.Doorbell != "unattended" {
				t.Errorf("the doorbell is %s", status.Doorbell)
			}
			list, err := admin.ListSubscriptions(ctx, db.Pool)
			if err != nil || len(list[0].Workers) != 0 || list[0].Owned != 0 {
				t.Errorf("got %+v, %v", list, err)
			}
			lanes, err := admin.ListLanes(ctx, db.Pool, s.Name)
			if err != nil || slices.ContainsFunc(lanes, func(l admin.Lane) bool { return l.Owner != "" }) {
				t.Errorf("got %+v, %v", lanes, err)
			}
			if err := admin.DeleteSubscription(ctx, db.Pool, s.Name, false); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRareTopic has a subscription wait for one event behind 200,000 of other topics, more than a look at the lag reads.
func TestRareTopic(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, "rare")
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`insert into outbox.events (topic, payload, published_at) select 'other', '1', now() - interval '3 h' from generate_series(1, 200000)`)
	exec(`insert into outbox.events (topic, payload, published_at) values ('rare', '1', now() - interval '2 h')`)
	for name, read := range map[string]func() (*admin.Status, error){
		"GetStatus":     func() (*admin.Status, error) { return admin.GetStatus(ctx, db.Pool) },
		"GetStatusUpTo": func() (*admin.Status, error) { return admin.GetStatusUpTo(ctx, db.Pool, 1000) },
	} {
		status, err := read()
		if err != nil {
			t.Fatal(err)
		}
		sub := status.Subscriptions[0]
		if !sub.Lag.Estimated || sub.Lag.Events < 1 || sub.Lag.Events > 100 || sub.Lag.Seconds < (2*time.Hour).Seconds() {
			t.Errorf("%s: lag %+v", name, sub.Lag)
		}
		if sub.Oldest == nil || sub.Oldest.State != admin.Unread || status.At.Sub(sub.Oldest.PublishedAt) < 2*time.Hour {
			t.Errorf("%s: oldest %+v", name, sub.Oldest)
		}
		if len(status.Concerns) == 0 || status.Concerns[0].Kind != admin.ConcernUnserved {
			t.Errorf("%s: concerns %+v", name, status.Concerns)
		}
	}
	// Whatever the topics of what was passed: nothing waits, and nothing of it was handled.
	m, _ := enginetest.Member(t, db, s)
	enginetest.Settle(t, m, 1)
	status, err := admin.GetStatusUpTo(ctx, db.Pool, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if sub := status.Subscriptions[0]; sub.Lag != (admin.Lag{}) || sub.Oldest != nil || len(status.Concerns) != 0 {
		t.Errorf("once all is handled: %+v, %+v", sub, status.Concerns)
	}
	if mark, err := admin.GetMark(ctx, db.Pool); err != nil || mark.Handled[s.Name] != 1 {
		t.Errorf("handled: %+v, %v", mark, err)
	}
}

// TestEverythingFails has what handlers need be away: no event succeeds, and each is tried again and again.
func TestEverythingFails(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, ">")
	m, _ := enginetest.Member(t, db, s)
	kinds := func() (kinds []admin.ConcernKind, oldest *admin.OldestEvent) {
		t.Helper()
		for _, read := range []func() (*admin.Status, error){
			func() (*admin.Status, error) { return admin.GetStatus(ctx, db.Pool) },
			func() (*admin.Status, error) { return admin.GetStatusUpTo(ctx, db.Pool, 1000) },
		} {
			status, err := read()
			if err != nil {
				t.Fatal(err)
			}
			var found []admin.ConcernKind
			for _, c := range status.Concerns {
				found = append(found, c.Kind)
			}
			if oldest != nil && !slices.Equal(kinds, found) {
				t.Errorf("one has the concerns %v, the other %v", kinds, found)
			}
			kinds, oldest = found, status.Subscriptions[0].Oldest
		}
		return kinds, oldest
	}
	age := func(by string) {
		t.Helper()
		if _, err := db.Pool.Exec(ctx, `
			update outbox.deliveries set created_at = now() - $1::interval, published_at = now() - $1::interval`, by); err != nil {
			t.Fatal(err)
		}
	}
	enginetest.Publish(t, db.Pool, "k")
	w, err := m.Read(ctx, 100)
	if err != nil || len(w.Events) != 1 {
		t.Fatal(w, err)
	}
	if err := m.Settle(ctx, engine.Settlement{Window: w, Unfinished: []engine.Unfinished{{Event: w.Events[0], Attempt: 1, Delay: time.Hour}}}); err != nil {
		t.Fatal(err)
	}
	if found, oldest := kinds(); len(found) != 0 || oldest == nil || oldest.State != "retrying" {
		t.Errorf("just now: %v, %+v", found, oldest)
	}
	age("2 min")
	if found, _ := kinds(); !slices.Equal(found, []admin.ConcernKind{admin.ConcernFailing}) {
		t.Errorf("after two minutes without a success: %v", found)
	}
	enginetest.Publish(t, db.Pool, "other")
	enginetest.Settle(t, m, 1)
	if found, _ := kinds(); len(found) != 0 {
		t.Errorf("while others succeed: %v", found)
	}
	age("6 min")
	if found, _ := kinds(); !slices.Equal(found, []admin.ConcernKind{admin.ConcernFailing}) {
		t.Errorf("of one that has failed for six minutes: %v", found)
	}
}
