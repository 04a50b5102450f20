package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/outbox"
)

type order struct {
	ID    string `json:"id"`
	Total int    `json:"total"`
}

// A row and its event, in one transaction: both are stored, or neither.
func ExamplePublish() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	o := order{ID: "A-17", Total: 4200}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `insert into shop.orders (id, total) values ($1, $2)`, o.ID, o.Total); err != nil {
			return err
		}
		event, err := outbox.NewEvent("orders.placed", o.ID, o) // the key keeps the events of one order in order
		if err != nil {
			return err
		}
		_, err = outbox.Publish(ctx, tx, event)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// Any number of events, copied as they come, in one transaction.
func ExamplePublishFrom() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)

	n, err := outbox.PublishFrom(ctx, conn, func(yield func(outbox.Event, error) bool) {
		for total := range 1_000_000 {
			if !yield(outbox.NewEvent("orders.imported", "", order{Total: total})) {
				return
			}
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("%d events are on their way", n)
}

// Two outboxes in one database: each has a schema of its own, made by "outbox migrate --outbox billing", and workers of its own.
func ExampleIn() {
	billing, err := outbox.In("billing")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(billing, billing.Channel()) // worker.Config{Outbox: billing}, billing.Publish(ctx, tx, event)
	_, err = outbox.In("pg_billing")
	fmt.Println(errors.Is(err, outbox.ErrInvalidOutbox))
	// Output:
	// billing new_signals_billing
	// true
}
