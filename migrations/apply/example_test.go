package apply_test

import (
	"context"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
)

// An application that creates and upgrades the outbox when it starts, however many of its processes start at once.
func ExampleUp() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return apply.Up(ctx, conn.Conn(), migrations.Outbox) })
	if err != nil {
		log.Fatal(err)
	}
}
