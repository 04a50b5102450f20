package settings_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/settings"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestApply gives a session whose every setting was another one what is essential, beyond the transaction that does it.
func TestApply(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	config := db.Pool.Config().ConnConfig
	for name, value := range map[string]string{"statement_timeout": "50", "lock_timeout": "60", "session_replication_role": "replica"} {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if direct, err := settings.Apply(t.Context(), conn.PgConn(), settings.Essential); err != nil || !direct {
		t.Fatal(direct, err)
	}
	for _, s := range settings.Essential {
		var got *string
		if err := conn.QueryRow(t.Context(), `select current_setting($1, true)`, s.Name).Scan(&got); err != nil || got != nil && *got != s.Value {
			t.Errorf("%s is %v, %v; want %s", s.Name, *got, err, s.Value)
		}
	}
}
