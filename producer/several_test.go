package producer_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/producer"
)

// TestAnotherOutbox stores signals with their events in an outbox of another name, in a database without a default one.
func TestAnotherOutbox(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	billing, err := outbox.In("billing")
	if err != nil {
		t.Fatal(err)
	}
	handler := producer.NewHandler(db.Pool, producer.Config{Outbox: billing, Logger: slog.New(slog.DiscardHandler)})
	ask := func(method, path string) *httptest.ResponseRecorder {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return recorder
	}
	if a := ask(http.MethodGet, "/readyz"); a.Code != http.StatusServiceUnavailable || !strings.Contains(a.Body.String(), "outbox migrate --outbox billing") {
		t.Errorf("without a schema: %d %s", a.Code, a.Body)
	}
	for _, set := range []migrations.Set{migrations.For(billing), migrations.Signals} {
		if err := apply.Up(t.Context(), db.Conn(t), set); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range [][2]string{{http.MethodGet, "/readyz"}, {http.MethodPost, "/ingest"}} {
		if a := ask(one[0], one[1]); a.Code != http.StatusOK {
			t.Errorf("%s: %d %s", one[1], a.Code, a.Body)
		}
	}
	page, err := admin.ListEvents(t.Context(), billing.DB(db.Pool), admin.EventFilter{}, admin.ListOptions{})
	if err != nil || len(page.Items) != 1 || page.Items[0].Topic != producer.TopicCreated {
		t.Errorf("the events are %+v, %v", page, err)
	}
	if _, err := db.Pool.Exec(t.Context(), `update billing.cluster set system_identifier = 1`); err != nil {
		t.Fatal(err)
	}
	if a := ask(http.MethodGet, "/readyz"); a.Code != http.StatusServiceUnavailable || !strings.Contains(a.Body.String(), "outbox migrate --outbox billing") {
		t.Errorf("with a log from elsewhere: %d %s", a.Code, a.Body)
	}
}
