package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// With database/sql and pgx as its driver: the transaction is the connection's, so what is published over the connection is in it.
// With any other driver, or through an ORM, insert into outbox.events by a statement of your own: see docs/guarantees.md.
func ExamplePublish_databaseSQL() {
	ctx := context.Background()
	db, err := sql.Open("pgx", "postgres://user:password@localhost:5432/shop") // import _ "github.com/jackc/pgx/v5/stdlib"
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := placeSQL(ctx, db, order{ID: "A-17", Total: 4200}); err != nil {
		log.Fatal(err)
	}
}

// placeSQL stores an order and its event in one transaction.
func placeSQL(ctx context.Context, db *sql.DB, o order) error {
	event, err := outbox.NewEvent("orders.placed", o.ID, o)
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after the commit, there is nothing to roll back
	if _, err := tx.ExecContext(ctx, `insert into shop.orders (id, total) values ($1, $2)`, o.ID, o.Total); err != nil {
		return err
	}
	err = conn.Raw(func(driver any) error {
		_, err := outbox.Publish(ctx, driver.(*stdlib.Conn).Conn(), event)
		return err
	})
	if err != nil {
		return err
	}
	return tx.Commit()
}

// insertSQL is placeSQL for who has no pgx, but any other driver of database/sql.
func insertSQL(ctx context.Context, db *sql.DB, o order) error {
	event, err := outbox.NewEvent("orders.placed", o.ID, o)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after the commit, there is nothing to roll back
	if _, err := tx.ExecContext(ctx, `insert into shop.orders (id, total) values ($1, $2)`, o.ID, o.Total); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `insert into outbox.events (topic, key, payload) values ($1, nullif($2, ''), $3)`,
		event.Topic, event.Key, string(event.Payload))
	if err != nil {
		return err
	}
	return tx.Commit()
}

// TestDatabaseSQL has the order and its event there, or neither, in both ways.
func TestDatabaseSQL(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]func(context.Context, *sql.DB, order) error{"pgx": placeSQL, "any driver": insertSQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t).Pool
			_, err := pool.Exec(t.Context(), `
				create schema shop;
				create table shop.orders (id text primary key, total integer not null);
				create function shop.refuse() returns trigger language plpgsql as 'begin raise exception ''sold out''; end';
				create constraint trigger late after insert on shop.orders deferrable initially deferred
				    for each row when (new.total = 13) execute function shop.refuse()`)
			if err != nil {
				t.Fatal(err)
			}
			db := stdlib.OpenDBFromPool(pool)
			defer db.Close()
			if err := place(t.Context(), db, order{ID: "A-1", Total: 42}); err != nil {
				t.Fatal(err)
			}
			if err := place(t.Context(), db, order{ID: "A-2", Total: 13}); err == nil { // at the commit
				t.Fatal("the order was placed although it is sold out")
			}
			page, err := admin.ListEvents(t.Context(), pool, admin.EventFilter{}, admin.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Items) != 1 || page.Items[0].Key != "A-1" || string(page.Items[0].Payload) != `{"id":"A-1","total":42}` {
				t.Errorf("the events are %+v", page.Items)
			}
		})
	}
}

// What cannot be stored is refused before anything is sent: the transaction stays usable.
func ExampleEventError() {
	var tx *pgxpool.Tx // nothing is asked of it
	placed, err := outbox.NewEvent("orders.placed", "A-17", order{ID: "A-17"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = outbox.Publish(context.Background(), tx, placed, outbox.Event{Topic: "orders.*", Payload: []byte(`{}`)})
	fmt.Println(err)

	var refused *outbox.EventError
	fmt.Println(errors.As(err, &refused), refused.Index, refused.Field)
	// Output:
	// event 1: topic "orders.*" has a wildcard: those belong in a subscription's topics
	// true 1 topic
}
