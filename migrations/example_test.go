package migrations_test

import (
	"context"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/migrations"
)

// An application that creates and upgrades the outbox when it starts, however many of its processes start at once.
func ExampleSet_Up() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return migrations.Outbox.Up(ctx, conn.Conn()) })
	if err != nil {
		log.Fatal(err)
	}
}

// An application whose database is migrated by somebody else, that refuses to start on another schema than its own.
func ExampleSet_Check() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)

	if err := migrations.Outbox.Check(ctx, conn); err != nil {
		log.Fatal(err) // says which version the database has, and which is needed
	}
}
