package dashboard

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/shoptest"
)

// A site is a dashboard under test, with its database.
type site struct {
	shoptest.Shop
	handler *Handler
	url     string // of the overview
	log     *shoptest.Journal
}

// newSite serves a dashboard below a prefix, as an application would.
func newSite(t *testing.T, config Config) *site {
	t.Helper()
	return serve(t, pgtest.New(t), config)
}

func serve(t *testing.T, db *pgtest.DB, config Config) *site {
	t.Helper()
	s := &site{Shop: shoptest.Shop{DB: db}, log: &shoptest.Journal{}}
	config.Logger = slog.New(slog.NewJSONHandler(s.log, nil))
	var err error
	if s.handler, err = NewHandler(db.Pool, config); err != nil {
		t.Fatal(err)
	}
	s.handler.every = 200 * time.Millisecond // tests have no patience
	mux := http.NewServeMux()
	mux.Handle("/ops/outbox/", http.StripPrefix("/ops/outbox", s.handler))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(s.handler.Close)
	s.url = server.URL + "/ops/outbox/"
	return s
}
