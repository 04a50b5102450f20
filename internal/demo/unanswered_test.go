package demo

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/producer"
)

// A request of which nobody knows what became of it was stored, another was not. The log knows.
func TestSettleDoubts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	d := &demo{cfg: Config{Pool: db.Pool}, db: db.Pool, ledger: newLedger(labels)}
	if _, err := producer.Store(t.Context(), db.Pool, signal(1)); err != nil {
		t.Fatal(err) // an old one: as if a demo before had sent it
	}
	if err := d.subscribe(t.Context(), labels); err != nil {
		t.Fatal(err)
	}
	stored, lost := signal(2), signal(3)
	for _, s := range []producer.Signal{signal(1), stored, lost} {
		d.ledger.sending(s)
		d.ledger.sent(s, errors.New("EOF"))
	}
	if _, err := producer.Store(t.Context(), db.Pool, stored, producer.Signal{Name: "another", Value: 21.5, Timestamp: lost.Timestamp}); err != nil {
		t.Fatal(err)
	}
	const noise = `insert into outbox.events (topic, payload) values ('signals.created', '["timestamp"]'), ('other', '{"timestamp": 1}')`
	if _, err := db.Pool.Exec(t.Context(), noise); err != nil {
		t.Fatal(err)
	}
	if err := d.findUnanswered(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := d.ledger.report(); r.Published != 1 || r.own != 1 || r.failed != 3 || r.rescued != 1 {
		t.Errorf("%d published, %d own, %d failed, %d of them stored", r.Published, r.own, r.failed, r.rescued)
	}
	if n := d.ledger.missing(); n != 1 {
		t.Errorf("%d missing, want the one that was found", n)
	}
}

// Without an answer there is no verdict.
func TestDoubtsThatCannotBeSettled(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	d := &demo{cfg: Config{Pool: db.Pool}, db: db.Pool, ledger: newLedger(labels)}
	d.ledger.sending(signal(1))
	d.ledger.sent(signal(1), errors.New("EOF"))
	db.Pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	if err := d.findUnanswered(ctx); err == nil {
		t.Error("no error")
	}
}
