package dashboard

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// TestStandby shows what is there where nothing can be written, and says so of each action.
func TestStandby(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 1, 3, "refused")
	config := s.Pool.Config()
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	standby := serve(t, &pgtest.DB{URL: s.URL, Pool: pool}, Config{})
	for _, page := range []string{"", "subscription?name=mails", "deadletters", "event?id=1", "events", "workers"} {
		standby.get(t, page).check(t, page, 200)
	}
	for _, action := range []string{"pause", "resume", "replay", "topics", "decide"} {
		standby.post(t, action, "do", "discard-all", "subscription", "mails", "name", "mails", "from", "1", "topics", "orders.placed").
			check(t, action, 409, "The server is a standby, or read-only", "Nothing was changed")
	}
	if got := s.States(t, "mails")["dead"]; got != 3 {
		t.Errorf("%d are dead", got)
	}
}
