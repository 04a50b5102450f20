package relay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/nats"
	"github.com/signalbox-go/signalbox/worker"
)

// A relay of all events about orders to NATS JetStream.
func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	sink, err := nats.New(nats.Config{URL: "nats://localhost:4222"})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	w, err := worker.New(pool, worker.Config{})
	if err != nil {
		log.Fatal(err)
	}
	s := worker.Subscription{Name: "to-nats", Topics: []string{"orders.>"}}
	if err := relay.Handle(w, s, sink, relay.Config{Source: "https://shop.example/orders"}); err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// Events go where the first rule for their topic says.
func ExampleRules() {
	route, err := relay.Rules(
		relay.Rule{Topics: []string{"orders.test"}, Drop: true},
		relay.Rule{Topics: []string{"orders.*"}, To: "shop.{topic[1]}"},
		relay.Rule{To: "other"},
	)
	if err != nil {
		log.Fatal(err)
	}
	for _, topic := range []string{"orders.test", "orders.placed", "stock.counted"} {
		r, err := route(&outbox.Event{Topic: topic})
		fmt.Println(topic, r.Destination, r.Drop, err)
	}
	// Output:
	// orders.test  true <nil>
	// orders.placed shop.placed false <nil>
	// stock.counted other false <nil>
}

// What a sink would be given for an event.
func ExampleEncoder_Message() {
	sink, err := nats.New(nats.Config{URL: "nats://localhost:4222"}) // it does not connect
	if err != nil {
		log.Fatal(err)
	}
	encoder, err := relay.NewEncoder(sink, relay.Config{Source: "https://shop.example/orders"})
	if err != nil {
		log.Fatal(err)
	}
	m, err := encoder.Message(&outbox.Event{
		ID: 1234, UID: "019acb5e-0d4c-7bce-8e2d-4000000004d2", Topic: "orders.placed", Key: "A-17", Payload: json.RawMessage(`{"total": 4200}`),
		PublishedAt: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Destination, m.Key, string(m.Body))
	for _, name := range []string{"ce-id", "ce-type", "ce-source", "ce-subject", "ce-time"} {
		fmt.Println(name, m.Headers[name])
	}
	// Output:
	// orders.placed A-17 {"total": 4200}
	// ce-id 019acb5e-0d4c-7bce-8e2d-4000000004d2
	// ce-type orders.placed
	// ce-source https://shop.example/orders
	// ce-subject A-17
	// ce-time 2026-01-31T12:00:00Z
}
