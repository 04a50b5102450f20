package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// Stop handling while what handlers need is being repaired, then have the last hour handled again.
func ExampleRewind() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	if err := admin.Pause(ctx, pool, "mails"); err != nil {
		log.Fatal(err)
	}
	// … repair …
	to := outbox.FromTime(time.Now().Add(-time.Hour))
	n, err := admin.CountRewind(ctx, pool, "mails", to)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d events will be handled again\n", n.Events)
	if _, err := admin.Rewind(ctx, pool, "mails", to); err != nil {
		log.Fatal(err)
	}
	if err := admin.Resume(ctx, pool, "mails"); err != nil {
		log.Fatal(err)
	}
}

// Have one customer's orders handled again, a hundred a second.
func ExampleReplay() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	done, err := admin.Replay(ctx, pool, "mails", admin.EventFilter{Topic: "orders.*", Payload: json.RawMessage(`{"customer": 4711}`)}, admin.ReplayOptions{
		Rate:     100,
		Progress: func(r admin.Replayed) { fmt.Printf("%d events up to %d of %d\n", r.Events, r.Last, r.UpTo) },
	})
	if err != nil {
		log.Fatalf("%v: go on with After: %d", err, done.Last)
	}
}

// The newest events of a key, page by page.
func ExampleListNewestEvents() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	var o admin.ListOptions
	for {
		page, err := admin.ListNewestEvents(ctx, pool, admin.EventFilter{Key: "A-17"}, o)
		if err != nil {
			log.Fatal(err)
		}
		for _, e := range page.Items {
			fmt.Println(e.ID, e.Topic, e.PublishedAt)
		}
		if o.After = page.Next; o.After == "" {
			return
		}
	}
}

// What failed while a service was away is tried again when it is back: first see how many, then do it.
func ExampleRetryDeliveries() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	refused := admin.DeliveryFilter{Subscription: "mails", Error: "connection refused"}
	n, err := admin.CountDeliveries(ctx, pool, refused)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("retrying %d dead letters", n)
	if _, err := admin.RetryDeliveries(ctx, pool, refused); err != nil {
		log.Fatal(err)
	}
}
