package migrations_test

import (
	"context"
	"log"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/migrations"
)

// An application whose database is migrated by another program, and that refuses to start on another schema than its own.
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
