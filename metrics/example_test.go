package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/signalbox-go/signalbox/metrics"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// A service that publishes and handles, and tells Prometheus about both.
func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://localhost/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	m := metrics.New(metrics.Config{Pool: pool})
	prometheus.MustRegister(m)
	http.Handle("GET /metrics", promhttp.Handler())
	go func() { log.Fatal(http.ListenAndServe("127.0.0.1:8081", nil)) }()

	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := outbox.Publish(ctx, tx, outbox.Event{Topic: "orders.placed", Payload: json.RawMessage(`{"total": 4200}`)})
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	m.Published("orders.placed", 1) // now that it is committed

	w, err := worker.New(pool, worker.Config{Hooks: []worker.Hooks{m.Hooks()}})
	if err != nil {
		log.Fatal(err)
	}
	s := worker.Subscription{Name: "confirmations", Topics: []string{"orders.placed"}}
	err = worker.Handle(w, s, func(_ context.Context, e *worker.Event[json.RawMessage]) error {
		log.Printf("confirming %s", e.Payload)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// Hooks of your own go beside those of the metrics.
func ExampleMetrics_Hooks() {
	m := metrics.New(metrics.Config{})
	alert := worker.Hooks{
		AttemptEnded: func(_ context.Context, a worker.Attempt) {
			if a.State == outbox.Dead {
				fmt.Printf("event %d of %s is a dead letter: %v\n", a.Event.ID, a.Subscription, a.Err)
			}
		},
	}
	cfg := worker.Config{Hooks: []worker.Hooks{m.Hooks(), alert}}

	// As a worker calls it:
	cfg.Hooks[1].AttemptEnded(context.Background(), worker.Attempt{Subscription: "mails", Event: &outbox.Event{ID: 17}, State: outbox.Dead, Err: errors.New("no such customer")})
	// Output:
	// event 17 of mails is a dead letter: no such customer
}
