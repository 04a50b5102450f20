package outbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/outbox"
)

// Stop handling while what handlers need is being repaired, then have the last hour handled again.
func ExampleRewind() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	if err := outbox.Pause(ctx, pool, "mails"); err != nil {
		log.Fatal(err)
	}
	// … repair …
	to := outbox.FromTime(time.Now().Add(-time.Hour))
	n, err := outbox.CountRewind(ctx, pool, "mails", to)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d events will be handled again\n", n.Events)
	if _, err := outbox.Rewind(ctx, pool, "mails", to); err != nil {
		log.Fatal(err)
	}
	if err := outbox.Resume(ctx, pool, "mails"); err != nil {
		log.Fatal(err)
	}
}

// Have one customer's orders handled again, a hundred at a time.
func ExampleReplayEvents() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	f := outbox.EventFilter{Topic: "orders.*", Payload: json.RawMessage(`{"customer": 4711}`)}
	after, done := int64(0), false
	for !done {
		var n int
		if n, after, done, err = outbox.ReplayEvents(ctx, pool, "mails", f, after, 100); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d events up to %d\n", n, after)
		time.Sleep(time.Second) // at the pace that suits
	}
}

// The newest events of a key, page by page.
func ExampleEvents() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	page := &outbox.EventPage{}
	for !page.Done {
		page, err = outbox.Events(ctx, pool, outbox.EventFilter{Key: "A-17"}, outbox.Page{Newest: true, After: page.Next})
		if err != nil {
			log.Fatal(err)
		}
		for _, e := range page.Events {
			fmt.Println(e.ID, e.Topic, e.PublishedAt)
		}
	}
}
