package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

type placed struct {
	ID    string `json:"id"`
	Total int    `json:"total"`
}

// A worker that sends a confirmation for each order. Run as many as you like: they share the load.
func ExampleHandle() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	w, err := worker.New(pool, worker.Config{})
	if err != nil {
		log.Fatal(err)
	}
	confirmations := worker.Subscription{Name: "confirmations", Topics: []string{"orders.placed"}}
	err = worker.Handle(w, confirmations, func(_ context.Context, e *worker.Event[placed]) error {
		log.Printf("confirming order %s over %d", e.Payload.ID, e.Payload.Total)
		return nil // after an error, the event is tried again later
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil { // until SIGINT or SIGTERM
		log.Fatal(err)
	}
}

// Orders are counted exactly once, whatever is killed: the count and the record that the events are handled commit together.
func ExampleHandleBatchTx() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	w, err := worker.New(pool, worker.Config{})
	if err != nil {
		log.Fatal(err)
	}
	revenue := worker.Subscription{Name: "revenue", Topics: []string{"orders.placed"}}
	err = worker.HandleBatchTx(w, revenue, func(ctx context.Context, tx pgx.Tx, events []*worker.Event[placed]) error {
		sum := 0
		for _, e := range events {
			sum += e.Payload.Total
		}
		_, err := tx.Exec(ctx, `update shop.revenue set orders = orders + $1, total = total + $2`, len(events), sum)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// A handler that writes one event at a time, in the transaction that settles it.
func ExampleHandleTx() {
	var w *worker.Worker // from worker.New
	ledger := worker.Subscription{Name: "ledger", Topics: []string{"orders.placed"}}
	err := worker.HandleTx(w, ledger, func(ctx context.Context, tx pgx.Tx, e *worker.Event[placed]) error {
		_, err := tx.Exec(ctx, `insert into shop.ledger (order_id, total) values ($1, $2)`, e.Payload.ID, e.Payload.Total)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A slice at a time, for calls that are cheaper together. Some of its events may fail alone.
func ExampleHandleBatch() {
	var w *worker.Worker // from worker.New
	index := func(context.Context, []placed) []error { return nil }
	search := worker.Subscription{Name: "search", Topics: []string{"orders.>"}}
	err := worker.HandleBatch(w, search, func(ctx context.Context, events []*worker.Event[placed]) error {
		orders := make([]placed, len(events))
		for i, e := range events {
			orders[i] = e.Payload
		}
		return worker.PerEvent(index(ctx, orders))
	})
	if err != nil {
		log.Fatal(err)
	}
}

// What an error says beyond "again, later".
func ExampleDeadLetter() {
	errNoSuchCustomer, errMailboxBusy := errors.New("no such customer"), errors.New("mailbox busy")
	var w *worker.Worker // from worker.New
	send := func(context.Context, placed) error { return nil }
	s := worker.Subscription{Name: "mails", Topics: []string{"orders.placed"}, Retry: worker.Retry{MaxAttempts: 5}}
	err := worker.Handle(w, s, func(ctx context.Context, e *worker.Event[placed]) error {
		if e.Payload.Total == 0 {
			return worker.Skip("samples need no confirmation")
		}
		switch err := send(ctx, e.Payload); {
		case errors.Is(err, errNoSuchCustomer):
			return worker.DeadLetter(err) // trying again would not help
		case errors.Is(err, errMailboxBusy):
			return worker.RetryAfter(time.Minute, err) // counts as an attempt; see PauseFor and Snooze for what does not
		default:
			return err // by the subscription's policy
		}
	})
	if err != nil {
		log.Fatal(err)
	}
}

// Version 1 of the payload had one field for the whole name; the handler decodes version 2. Whatever else is in a payload stays.
func ExampleUpcast() {
	split := func(raw json.RawMessage) (json.RawMessage, error) {
		fields := map[string]json.RawMessage{}
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, err
		}
		var name string
		if err := json.Unmarshal(fields["name"], &name); err != nil {
			return nil, err
		}
		first, last, _ := strings.Cut(name, " ")
		fields["first"], _ = json.Marshal(first)
		fields["last"], _ = json.Marshal(last)
		delete(fields, "name")
		return json.Marshal(fields)
	}
	s := worker.Subscription{Name: "mails", Topics: []string{"customers.*"}, Upcasts: map[int]worker.Upcast{1: split}}
	v2, err := s.Upcasts[1](json.RawMessage(`{"name": "Ada Lovelace", "since": 1843}`))
	fmt.Println(string(v2), err)
	// Output: {"first":"Ada","last":"Lovelace","since":1843} <nil>
}

// Middleware sees every call of a handler, in any of its forms, with the undecoded events and the handler's error.
func ExampleMiddleware() {
	logged := func(next worker.Handler) worker.Handler {
		return func(ctx context.Context, c worker.Call) error {
			err := next(ctx, c)
			fmt.Printf("%s: %d events from %s on, attempt %d of %d: %v\n",
				c.Subscription, len(c.Events), c.Events[0].Topic, c.Attempt, c.MaxAttempts, err)
			return err
		}
	}
	_ = worker.Subscription{Name: "mails", Topics: []string{"orders.placed"}, Middleware: []worker.Middleware{logged}}

	// As a worker calls it:
	handler := func(context.Context, worker.Call) error { return errors.New("no connection") }
	call := worker.Call{Subscription: "mails", Events: []*outbox.Event{{Topic: "orders.placed"}}, Attempt: 2, MaxAttempts: 100}
	_ = logged(handler)(context.Background(), call)
	// Output:
	// mails: 1 events from orders.placed on, attempt 2 of 100: no connection
}

// AsyncMiddleware is told when an attempt of HandleAsync begins, and what became of it.
func ExampleAsyncMiddleware() {
	timed := func(ctx context.Context, c worker.Call) (context.Context, func(error)) {
		began := time.Now()
		return ctx, func(err error) {
			log.Printf("%s: event %s, attempt %d: %v after %v", c.Subscription, c.Events[0].UID, c.Attempt, err, time.Since(began))
		}
	}
	_ = worker.Subscription{Name: "to-kafka", Topics: []string{"orders.placed"}, AsyncMiddleware: []worker.AsyncMiddleware{timed}}
}

// Delays of your own, in place of exponential growth: after the fourth failure, the event is a dead letter.
func ExampleRetry() {
	_ = worker.Subscription{Name: "mails", Topics: []string{"orders.placed"}, Retry: worker.Retry{
		MaxAttempts: 4,
		Delay: func(failed int) time.Duration {
			return []time.Duration{time.Second, time.Minute, time.Hour}[failed-1]
		},
	}}
}
