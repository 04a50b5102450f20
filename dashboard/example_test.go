package dashboard_test

import (
	"context"
	"log"
	"net/http"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/dashboard"
)

// The dashboard in an application of one's own, below a path and behind a token.
func ExampleNewHandler() {
	pool, err := pgxpool.New(context.Background(), "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	d, err := dashboard.NewHandler(pool, dashboard.Config{Token: "at least 16 bytes that nobody guesses"})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ops/outbox/", http.StripPrefix("/ops/outbox", d))
	server := &http.Server{Addr: "localhost:8080", Handler: mux}
	server.RegisterOnShutdown(d.Close) // else those who watch hold up its end
	if err := server.ListenAndServe(); err != nil {
		log.Print(err)
	}
}
