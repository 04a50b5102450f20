package worker_test

import (
	"context"
	"log"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

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
		return nil // an error would have it tried again later
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil { // until SIGINT or SIGTERM
		log.Fatal(err)
	}
}
