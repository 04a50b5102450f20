package producer_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/producer"
)

// Both signals, and an event for each, or neither.
func ExampleStore() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	stored, err := producer.Store(ctx, pool,
		producer.Signal{Name: "temperature", Value: 21.5},
		producer.Signal{Name: "humidity", Value: 40},
	)
	switch {
	case errors.Is(err, producer.ErrInvalidSignal):
		log.Fatal(err) // says which, and why; nothing was sent
	case errors.Is(err, producer.ErrOutcomeUnknown):
		log.Fatal("look before you repeat: ", err)
	case err != nil:
		log.Fatal(err) // nothing was stored
	}
	for _, s := range stored {
		fmt.Printf("signal %d has event %d\n", s.Signal.ID, s.Event.ID)
	}
}

func ExampleStore_refused() {
	// What cannot be stored is refused before the database is asked.
	var db *pgxpool.Pool
	_, err := producer.Store(context.Background(), db, producer.Signal{Name: "temperature"}, producer.Signal{Name: ""})
	fmt.Println(err)

	var refused *producer.SignalError
	fmt.Println(errors.As(err, &refused), refused.Index, refused.Field)
	// Output:
	// signal 1: name is empty
	// true 1 name
}

func ExampleHandler() {
	// A real one has a pool; what is refused never reaches it.
	var db *pgxpool.Pool
	handler := producer.NewHandler(db, producer.Config{})

	request := httptest.NewRequest(http.MethodPost, "/ingest", strings.NewReader(`{"name": "temperature"}`))
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	fmt.Print(answer.Code, " ", answer.Body)
	// Output:
	// 400 {"error":"value is missing"}
}
