package producer_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// checkCounts wants so many signals and events in the database.
func checkCounts(t *testing.T, pool *pgxpool.Pool, signals, events int) {
	t.Helper()
	var haveSignals, haveEvents int
	const count = `select (select count(*) from public.signals), (select count(*) from outbox.events)`
	if err := pool.QueryRow(t.Context(), count).Scan(&haveSignals, &haveEvents); err != nil {
		t.Fatal(err)
	}
	if haveSignals != signals || haveEvents != events {
		t.Errorf("%d signals and %d events are stored, want %d and %d", haveSignals, haveEvents, signals, events)
	}
}

// execute runs statements that set a test's scene.
func execute(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(context.Background(), sql); err != nil {
		t.Fatal(err)
	}
}

// atCommit makes the commit of whatever stores a signal run a statement.
func atCommit(t *testing.T, pool *pgxpool.Pool, statement string) {
	t.Helper()
	execute(t, pool, `
		create function public.at_commit() returns trigger language plpgsql as $$ begin `+statement+`; return null; end $$;
		create constraint trigger at_commit after insert on public.signals deferrable initially deferred
			for each row execute function public.at_commit()`)
}
