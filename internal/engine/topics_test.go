package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

func publishTopic(t *testing.T, db outbox.DB, topic, key string) {
	t.Helper()
	if _, err := outbox.Publish(t.Context(), db, outbox.Event{Topic: topic, Key: key, Payload: []byte(`1`)}); err != nil {
		t.Fatal(err)
	}
}

// request asks for topics, as admin.SetTopics does.
func request(t *testing.T, db *pgtest.DB, backfill *int64, topics ...string) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), `update outbox.subscriptions set topics_to = $1, backfill_after = $2`, topics, backfill); err != nil {
		t.Fatal(err)
	}
}

// A change is what a finished change of topics has recorded.
type change struct {
	done             bool
	upTo, backfilled int64
}

func finishTopics(t *testing.T, db *pgtest.DB) (c change) {
	t.Helper()
	var err error
	if c.done, err = engine.FinishTopics(t.Context(), db.Pool, "s"); err == nil && c.done {
		err = db.Pool.QueryRow(t.Context(), `select up_to, backfilled from outbox.topic_changes order by at desc limit 1`).Scan(&c.upTo, &c.backfilled)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func knowsAll([]string) bool { return true }

func topicsOf(events []engine.Event) (topics []string) {
	for i := range events {
		topics = append(topics, events[i].Topic+" "+events[i].Key)
	}
	return topics
}

// TestTopicsChangeAtTheCursors adds a topic while some of its events are read, some are published and not committed, and some are yet to
// come. Only the first are not handled, and they are where the change back-fills.
func TestTopicsChangeAtTheCursors(t *testing.T) {
	t.Parallel()
	for _, backfill := range []bool{false, true} {
		db := pgtest.New(t)
		s := enginetest.Subscribe(t, db, "a")
		m, _ := enginetest.Member(t, db, s)
		publishTopic(t, db.Pool, "b", "too old")
		publishTopic(t, db.Pool, "b", "passed")
		publishTopic(t, db.Pool, "c", "passed")
		var open, ended pgx.Tx
		for _, tx := range []*pgx.Tx{&open, &ended} {
			var err error
			if *tx, err = db.Conn(t).Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			publishTopic(t, *tx, "b", "late")
			publishTopic(t, *tx, "a", "late")
		}
		publishTopic(t, db.Pool, "a", "passed")
		enginetest.Settle(t, m, 1)

		var after *int64
		if backfill {
			after = new(int64)
			*after = 1
		}
		request(t, db, after, "a", "b")
		if change := finishTopics(t, db); change.done {
			t.Fatal("the topics changed while a member owned lanes")
		}
		if _, err := m.Release(t.Context(), engine.Lanes); err != nil {
			t.Fatal(err)
		}
		if lanes, err := m.Claim(t.Context(), engine.Lanes); err != nil || len(lanes) > 0 {
			t.Fatalf("claimed %d lanes while the change waits, %v", len(lanes), err)
		}
		if err := ended.Commit(t.Context()); err != nil { // between the cursor and the change
			t.Fatal(err)
		}
		change := finishTopics(t, db)
		if !change.done || change.upTo < 8 || (change.backfilled == 1) != backfill {
			t.Fatalf("back-fill: %v: %+v", backfill, change)
		}
		if lanes, err := m.Claim(t.Context(), engine.Lanes); err != nil || len(lanes) > 0 {
			t.Fatalf("claimed %d lanes with the old topics, %v", len(lanes), err)
		}
		if err := open.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		publishTopic(t, db.Pool, "b", "new")
		if _, known, err := m.Rejoin(t.Context(), knowsAll); err != nil || !known {
			t.Fatal(err)
		}
		if lanes, err := m.Claim(t.Context(), engine.Lanes); err != nil || len(lanes) != engine.Lanes {
			t.Fatalf("claimed %d lanes, %v", len(lanes), err)
		}
		read := topicsOf(enginetest.Settle(t, m, 5))
		slices.Sort(read)
		if want := []string{"a late", "a late", "b late", "b late", "b new"}; !slices.Equal(read, want) {
			t.Errorf("read %v, want %v", read, want)
		}
		var rows []string
		if err := db.Pool.QueryRow(t.Context(), `select array_agg(d.topic || ' ' || d.key) from outbox.deliveries d`).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		if backfill != slices.Equal(rows, []string{"b passed"}) {
			t.Errorf("back-filled: %v", rows)
		}
		// And back: what was read stays, what is not read goes by the topics of now.
		publishTopic(t, db.Pool, "b", "unread")
		request(t, db, nil, "a")
		if _, err := m.Release(t.Context(), engine.Lanes); err != nil {
			t.Fatal(err)
		}
		if change := finishTopics(t, db); !change.done {
			t.Fatal("not done")
		}
		if _, _, err := m.Rejoin(t.Context(), knowsAll); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Claim(t.Context(), engine.Lanes); err != nil {
			t.Fatal(err)
		}
		enginetest.Settle(t, m, 0)
	}
}

// TestTopicsOfHeldKeys adds a topic while a key is held: what is held goes by the new topics, in order, and a back-fill makes rows of
// what is before.
func TestTopicsOfHeldKeys(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, "a")
	m, _ := enginetest.Member(t, db, s)
	for _, topic := range []string{"b", "a", "b", "a"} {
		publishTopic(t, db.Pool, topic, "k")
	}
	w, err := m.Read(t.Context(), 100_000)
	if err != nil || len(w.Events) != 2 {
		t.Fatal(len(w.Events), err)
	}
	first := w.Events[0]
	if err := m.Settle(t.Context(), engine.Settlement{Window: w, Holds: []engine.Hold{{Lane: first.Lane, Key: "k", From: first.ID}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Release(t.Context(), engine.Lanes); err != nil {
		t.Fatal(err)
	}
	request(t, db, new(int64), "a", "b")
	if change := finishTopics(t, db); change.backfilled != 1 { // the first one alone
		t.Fatalf("%+v", change)
	}
	if _, _, err := m.Rejoin(t.Context(), knowsAll); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Claim(t.Context(), engine.Lanes); err != nil {
		t.Fatal(err)
	}
	refills, err := m.Refill(t.Context(), first.Lane, []engine.Want{{Key: "k", Rows: 10}}, m.Decided(nil), 100, -1, false)
	if err != nil || len(refills) != 1 || refills[0].Rows != 3 {
		t.Fatalf("%+v, %v", refills, err)
	}
	enginetest.Settle(t, m, 0)
}

// TestClaimSeesTopics has topics change after a claim has taken its snapshot and before it takes lanes.
func TestClaimSeesTopics(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, "a")
	id, err := engine.Join(t.Context(), db.Conn(t), "old", true, time.Hour, []int32{s.ID})
	if err != nil {
		t.Fatal(err)
	}
	m := engine.NewMember(db.Conn(t), id, s)
	if _, err := db.Pool.Exec(t.Context(), `
		create function public.change() returns trigger language plpgsql as $$ begin
		    -- As if FinishTopics had committed between the snapshot of the claim and its locks.
		    perform set_config('session_replication_role', 'replica', true);
		    update outbox.subscriptions set topics = '{a,b}';
		    return null;
		end $$;
		create trigger change after update on outbox.lanes for each statement execute function public.change()`); err != nil {
		t.Fatal(err)
	}
	if lanes, err := m.Claim(t.Context(), engine.Lanes); err == nil || !strings.Contains(err.Error(), "have just changed") {
		t.Errorf("claimed %d lanes, %v", len(lanes), err)
	}
}

// TestTopicsAreKept has the trigger refuse what the cursors do not know of.
func TestTopicsAreKept(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, "a")
	change := func() error {
		_, err := db.Pool.Exec(context.Background(), `update outbox.subscriptions set topics = '{a,b}'`)
		return err
	}
	if err := change(); err == nil || !strings.Contains(err.Error(), "cannot change like this") {
		t.Errorf("without a request: %v", err)
	}
	m, id := enginetest.Member(t, db, s)
	request(t, db, nil, "a", "b")
	if err := change(); err == nil || !strings.Contains(err.Error(), "cannot change like this") {
		t.Errorf("with lanes owned: %v", err)
	}
	if _, err := m.Release(t.Context(), engine.Lanes); err != nil {
		t.Fatal(err)
	}
	if err := change(); err != nil {
		t.Error(err)
	}
	p, err := engine.Beat(t.Context(), db.Conn(t), id, false)
	if other := p.Topics[s.ID]; err != nil || !slices.Equal(other.Have, []string{"a", "b"}) || !slices.Equal(other.Reads, []string{"a"}) || other.Owner {
		t.Errorf("the heartbeat says %+v, %v", p.Topics, err)
	}
	if share := p.Shares[s.ID]; share.Fair != 0 || share.Sharing != 0 {
		t.Errorf("a member with old topics has a share: %+v", share)
	}
	if _, known, err := m.Rejoin(t.Context(), func(topics []string) bool { return len(topics) < 2 }); err != nil || known {
		t.Errorf("known: %v, %v", known, err)
	}
	if lanes, err := m.Claim(t.Context(), 1); err != nil || len(lanes) != 0 {
		t.Errorf("claimed %v, %v, without knowing the topics", lanes, err)
	}
}
