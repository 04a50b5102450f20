package migrations_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
)

// TestUpWaitsForNobodyLong upgrades a schema whose table an open transaction has read: others go on to use the table meanwhile, and the
// upgrade is made once the transaction has ended, or names it.
func TestUpWaitsForNobodyLong(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]bool{"it ends": true, "it does not end": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewEmpty(t)
			set := migrations.Outbox
			m, err := migrate.NewMigrator(t.Context(), db.Conn(t), set.VersionTable())
			if err != nil {
				t.Fatal(err)
			}
			if err := m.LoadMigrations(set.Files()); err != nil {
				t.Fatal(err)
			}
			if err := m.MigrateTo(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			reader := db.Conn(t)
			open, err := reader.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := open.Exec(t.Context(), `select from outbox.subscriptions`); err != nil {
				t.Fatal(err)
			}
			up, conn := make(chan error, 1), db.Conn(t)
			go func() { up <- apply.Up(t.Context(), conn, set) }()
			inTheWay(t, db, conn)

			// Each of these is queued behind the upgrade, which gives up before long. One of them would be enough to be deadlocked with it.
			for i := range 3 {
				since := time.Now()
				if _, err := db.Pool.Exec(t.Context(), `insert into outbox.subscriptions (name, topics) values ($1, array['a'])`, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
				if took := time.Since(since); took > 15*time.Second {
					t.Errorf("another one waited for %v", took)
				}
				select {
				case err := <-up:
					t.Fatalf("the upgrade ended: %v", err)
				default:
				}
			}
			if ends {
				if err := open.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			err = <-up
			switch {
			case ends && err != nil:
				t.Error(err)
			case ends:
				err = set.Check(t.Context(), db.Pool)
				if err != nil {
					t.Error(err)
				}
			case err == nil || strings.Contains(err.Error(), "\n") ||
				!strings.Contains(err.Error(), fmt.Sprintf("open transactions have locked its tables: pid %d: commit them or roll them back", reader.PgConn().PID())):
				t.Errorf("got %v", err)
			}
		})
	}
}

// inTheWay waits until a connection waits for a lock.
func inTheWay(t *testing.T, db *pgtest.DB, conn *pgx.Conn) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var waits bool
		if err := db.Pool.QueryRow(t.Context(), `select exists (select from pg_locks l where l.pid = $1 and not l.granted)`, conn.PgConn().PID()).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		if waits {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not wait for a lock")
		}
	}
}
