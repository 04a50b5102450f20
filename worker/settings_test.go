package worker_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestSettings runs workers in a database where all sessions have settings that do not suit them. Those end none of theirs.
func TestSettings(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	conn := db.Conn(t) // with the settings of now
	for _, setting := range []string{
		"default_transaction_isolation = serializable", "idle_session_timeout = 2000", "idle_in_transaction_session_timeout = 50",
		"search_path = pg_temp", "statement_timeout = 2000", "lock_timeout = 1000", "session_replication_role = replica", "row_security = off",
		"plan_cache_mode = force_custom_plan", "enable_indexscan = off", "enable_bitmapscan = off", "datestyle = sql", "intervalstyle = sql_standard",
		"bytea_output = escape", "extra_float_digits = -10", "timezone = \"Asia/Kolkata\"", "array_nulls = off", "quote_all_identifiers = on",
	} {
		if _, err := conn.Exec(ctx, `do $$ begin execute format('alter database %I set `+setting+`', current_database()); end $$`); err != nil {
			t.Fatal(setting, err)
		}
	}
	l := newLedger()
	s := worker.Subscription{Name: "s", Topics: everything}
	for i := range 3 {
		start(t, db.Pool, worker.Config{Name: fmt.Sprint(i), PollInterval: 50 * time.Millisecond}, s, func(_ context.Context, e *worker.Event[payload]) error {
			l.add(e)
			return nil
		})
	}
	eventually(t, 20*time.Second, "all have their share", func() bool {
		lanes, _ := owners(t, conn)
		return lanes["0"] > 20 && lanes["1"] > 20 && lanes["2"] > 20
	})
	workers := func() (ids []int64) {
		if err := conn.QueryRow(ctx, `select array_agg(id order by id) from outbox.workers`).Scan(&ids); err != nil {
			t.Fatal(err)
		}
		return ids
	}
	before := workers()
	for n, begun := 0, time.Now(); time.Since(begun) < 3*time.Second; n++ { // longer than a session may be idle
		publish(t, conn, "k", n, n+1)
		if l.waitFor(t, n+1); n == 0 {
			time.Sleep(2500 * time.Millisecond)
		}
	}
	if after := workers(); !slices.Equal(after, before) {
		t.Errorf("the workers were %v, and are %v", before, after)
	}
}
