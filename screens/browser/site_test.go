package browser

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/signalbox-go/signalbox/dashboard"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/shoptest"
)

// A site is a dashboard under test, with its database.
type site struct {
	shoptest.Shop
	handler  *dashboard.Handler
	url      string // of the overview
	log      *shoptest.Journal
	watchers atomic.Int64 // pages that are kept up to date
}

// newSite serves a dashboard below a prefix, as an application would.
func newSite(t *testing.T, config dashboard.Config) *site {
	t.Helper()
	s := &site{Shop: shoptest.Shop{DB: pgtest.New(t)}, log: &shoptest.Journal{}}
	config.Logger = slog.New(slog.NewJSONHandler(s.log, nil))
	var err error
	if s.handler, err = dashboard.NewHandler(s.Pool, config); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ops/outbox/", http.StripPrefix("/ops/outbox", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/event-stream" {
			s.watchers.Add(1)
			defer s.watchers.Add(-1)
		}
		s.handler.ServeHTTP(w, r)
	})))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(s.handler.Close)
	s.url = server.URL + "/ops/outbox/"
	return s
}
