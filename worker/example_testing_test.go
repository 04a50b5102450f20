package worker_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

var errNoSuchCustomer = errors.New("no such customer")

// confirm and enter are the handlers under test.
func confirm(_ context.Context, e *worker.Event[placed]) error {
	switch {
	case e.Payload.Total == 0:
		return worker.Skip("samples need no confirmation")
	case e.Payload.ID == "":
		return worker.DeadLetter(errNoSuchCustomer)
	}
	return nil
}

func enter(ctx context.Context, tx pgx.Tx, e *worker.Event[placed]) error {
	_, err := tx.Exec(ctx, `insert into shop.ledger (order_id, total) values ($1, $2)`, e.Payload.ID, e.Payload.Total)
	return err
}

// A handler is a function: a test calls it. What DeadLetter, RetryAfter and Skip return can be compared.
func Example_testHandler() {
	ctx := context.Background()
	fmt.Println(confirm(ctx, &worker.Event[placed]{Payload: placed{ID: "A-17", Total: 4200}}))

	err := confirm(ctx, &worker.Event[placed]{Payload: placed{ID: "A-18"}})
	fmt.Println(reflect.DeepEqual(err, worker.Skip("samples need no confirmation")))

	err = confirm(ctx, &worker.Event[placed]{Payload: placed{Total: 4200}, Attempt: 2})
	fmt.Println(errors.Is(err, errNoSuchCustomer), err)
	// Output:
	// <nil>
	// true
	// true dead letter: no such customer
}

// TestLedger is how the whole way of an event may be tested, from the commit to what its handler leaves.
func TestLedger(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool // a database of yours, with apply.Up
	if _, err := pool.Exec(t.Context(), `create schema shop; create table shop.ledger (order_id text primary key, total integer)`); err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(pool, worker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.HandleTx(w, worker.Subscription{Name: "ledger", Topics: []string{"orders.placed"}}, enter); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()

	event, err := outbox.NewEvent("orders.placed", "A-17", placed{ID: "A-17", Total: 4200})
	if err != nil {
		t.Fatal(err)
	}
	published, err := outbox.Publish(t.Context(), pool, event)
	if err != nil {
		t.Fatal(err)
	}
	awaitFate(t, pool, published[0].ID, "ledger", admin.FateDelivered)

	var total int
	if err := pool.QueryRow(t.Context(), `select total from shop.ledger where order_id = 'A-17'`).Scan(&total); err != nil || total != 4200 {
		t.Errorf("the ledger has %d, %v", total, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// awaitFate waits until something has become of an event in a subscription.
func awaitFate(t *testing.T, pool *pgxpool.Pool, id int64, subscription string, want admin.Fate) {
	t.Helper()
	var last *admin.EventDetails
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		row, err := admin.GetEvent(t.Context(), pool, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range row.Fates {
			if f.Subscription == subscription && f.Fate == want {
				return
			}
		}
		last = row
	}
	t.Fatalf("event %d is not %s in %q: %+v", id, want, subscription, last.Fates)
}
