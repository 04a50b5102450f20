package dashboard

import (
	"net/http"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestAnotherOutbox shows each page of an outbox of another name, in a database without a default one, and says which it is; except to
// those who have not logged in.
func TestAnotherOutbox(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	billing, err := outbox.In("billing")
	if err != nil {
		t.Fatal(err)
	}
	const token = "0123456789abcdef"
	s := serve(t, db, Config{Outbox: billing, Token: token})
	auth := []string{"Authorization", "Bearer " + token}
	s.get(t, "", auth...).check(t, "without a schema", http.StatusServiceUnavailable, "outbox migrate --outbox billing")
	if err := apply.Up(t.Context(), db.Conn(t), migrations.For(billing)); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Subscribe(t.Context(), billing.DB(db.Pool), "s", []string{">"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	if _, err := billing.Publish(t.Context(), db.Pool, outbox.Event{Topic: "a.b", Key: "k", Payload: []byte(`1`)}); err != nil {
		t.Fatal(err)
	}
	for page, want := range map[string]string{
		"": "s", "events": "a.b", "event?id=1": "a.b", "subscription?name=s": "s", "deadletters": "Dead letters", "workers": "Workers",
	} {
		s.get(t, page, auth...).check(t, page, http.StatusOK, want, "· billing · Signalbox</title>", ">billing</span>")
	}
	if a := s.get(t, ""); strings.Contains(a.body, "billing") {
		t.Error("the login page tells which outbox it is")
	}
	if a := newSite(t, Config{}).get(t, ""); strings.Contains(a.body, "The outbox that this dashboard shows") {
		t.Error("the default outbox's dashboard has a name")
	}
}
