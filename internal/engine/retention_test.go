package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// TestTrim checks what keeps events in the log, one thing after the other.
func TestTrim(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	expect := func(what string, thorough bool, want ...int64) {
		t.Helper()
		if left := enginetest.TrimAll(t, db, thorough); !slices.Equal(left, want) {
			t.Fatalf("%s: events %v are left, want %v", what, left, want)
		}
	}
	key := 0
	publishN := func(n int) { // all in one lane
		for range n {
			key++
			if _, err := outbox.Publish(ctx, db.Pool, outbox.Event{Topic: "a", Key: "k", Payload: json.RawMessage(fmt.Sprint(key))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	publishN(3)
	enginetest.Age(t, db, 2)
	expect("without subscriptions, age decides", false, 3)

	s, err := engine.Subscribe(ctx, db.Pool, "s", []string{"a"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	paused, err := engine.Subscribe(ctx, db.Pool, "paused", []string{"none"}, outbox.FromNow)
	if err != nil {
		t.Fatal(err)
	}
	enginetest.Age(t, db, 3)
	expect("nobody has read it", false, 3)
	m, _ := enginetest.Member(t, db, s)
	w, err := m.Read(ctx, 1000)
	if err != nil {
		t.Fatal(err)
	}
	expect("it was read, and is not settled", false, 3)
	if err := m.Settle(ctx, engine.Settlement{Window: w, Unfinished: []engine.Unfinished{{Event: w.Events[0], State: outbox.Dead}}}); err != nil {
		t.Fatal(err)
	}
	expect("it is settled", false)

	// 4 commits late, 5 and 6 are settled before.
	slow := db.Conn(t)
	tx, err := slow.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	enginetest.Publish(t, tx, "k")
	publishN(2)
	enginetest.Settle(t, m, 2)
	enginetest.Age(t, db, 6)
	expect("a paused subscription has not read them, whatever its topics are", false, 5, 6)
	other, _ := enginetest.Member(t, db, paused)
	enginetest.Settle(t, other, 0)
	expect("they are settled, and what is running is behind", false)
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	enginetest.Age(t, db, 6)
	expect("the late one is not settled", true, 4)
	enginetest.Settle(t, m, 1)
	expect("one subscription has settled the late one", true, 4)
	enginetest.Settle(t, other, 0)
	expect("its place was passed before", false, 4)
	expect("both have settled it", true)

	publishN(2) // 7, 8
	enginetest.Settle(t, m, 2)
	enginetest.Settle(t, other, 0)
	if _, err := db.Pool.Exec(ctx, `update outbox.events set published_at = now() - interval '2 hours' where id = 8`); err != nil {
		t.Fatal(err)
	}
	expect("the one before is young", false, 7, 8)
	enginetest.Age(t, db, 8)
	if _, err := db.Pool.Exec(ctx, `update outbox.subscriptions set rewind_to = 7 where name = 'paused'`); err != nil {
		t.Fatal(err)
	}
	expect("a subscription goes back to 7", false, 8)

	// Who subscribes in a long transaction may need what would be deleted.
	subscribing, err := slow.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Subscribe(ctx, within{subscribing}, "new", []string{"a"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Trim(ctx, db.Pool, 0, time.Hour, 1, false); !errors.Is(err, engine.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	if err := subscribing.Rollback(ctx); err != nil {
		t.Fatal(err)
	}

	// Dead letters stay, skipped ones go.
	if n, err := engine.TrimSkipped(ctx, db.Pool, 0, 10); err != nil || n != 0 {
		t.Errorf("deleted %d, %v: there is only a dead letter", n, err)
	}
	all := admin.DeliveryFilter{Subscription: "s"}
	if n, err := admin.SkipDeliveries(ctx, db.Pool, all, "why not"); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if n, err := engine.TrimSkipped(ctx, db.Pool, time.Hour, 10); err != nil || n != 0 {
		t.Errorf("deleted %d, %v: it was skipped just now", n, err)
	}
	if n, err := engine.TrimSkipped(ctx, db.Pool, 0, 10); err != nil || n != 1 {
		t.Errorf("deleted %d, %v, want the skipped one", n, err)
	}
}

// within has what begins a transaction begin a savepoint in one.
type within struct{ pgx.Tx }

func (w within) BeginTx(ctx context.Context, _ pgx.TxOptions) (pgx.Tx, error) { return w.Begin(ctx) }

// TestTrimInChunks deletes from all lanes, a hundred events at a time.
func TestTrimInChunks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	enginetest.Fill(t, db, 5000, time.Now().Add(-24*time.Hour))
	enginetest.Age(t, db, 4000)
	if _, err := db.Pool.Exec(t.Context(), `update outbox.events set published_at = now() where id > 4000`); err != nil {
		t.Fatal(err)
	}
	if left := enginetest.TrimAll(t, db, false); len(left) != 1000 || left[0] != 4001 {
		t.Errorf("%d are left, from %d on; want those above 4000", len(left), left[0])
	}
	page, err := admin.ListEvents(t.Context(), db.Pool, admin.EventFilter{}, admin.ListOptions{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if got := page.Items; len(got) != 1000 || got[0].ID != 4001 {
		t.Errorf("%d are listed", len(got))
	}
}
