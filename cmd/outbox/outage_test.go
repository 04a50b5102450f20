package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// TestOutagesAreTold has what "outbox status" and "outbox doctor" say of outages.
func TestOutagesAreTold(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		topic          string
		happen         []string // statements
		killed         bool     // the worker
		status, doctor string
	}{
		"a rare topic behind 200,000 others": {"rare", []string{
			`insert into outbox.events (topic, payload, published_at) select 'other', '1', now() - interval '3 h' from generate_series(1, 200000)`,
			`insert into outbox.events (topic, payload, published_at) values ('rare', '1', now() - interval '2 h')`,
		}, false, "~", `Subscription "s" has events to handle that are 3h`},
		"the last worker is killed": {">", []string{
			`insert into outbox.events (topic, payload, published_at) values ('a.b', '1', now() - interval '2 h')`,
		}, true, "s has no worker, and 1 event waits", `Subscription "s" is forgotten: no worker serves it, and it has events to handle that are 2h`},
		"everything fails, and no attempt counts": {">", []string{
			`insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, attempt, due_at, created_at, errors)
			select 1, n, n % 64, 'a.b', '1', '{}', now() - interval '2 h', 'retrying', 0, now(), now() - interval '2 h',
			       jsonb_build_array(jsonb_build_object('attempt', 1, 'at', now(), 'worker', 'w', 'error', 'no route to host'))
			from generate_series(1, 20) n`,
		}, false, "s has failed for 2h", `Subscription "s" has events to handle that are 2h`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			s := enginetest.Subscribe(t, db, test.topic)
			conn := db.Conn(t)
			if _, err := engine.Join(t.Context(), conn, "last", true, time.Hour, []int32{s.ID}); err != nil {
				t.Fatal(err)
			}
			for _, sql := range test.happen {
				if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			if test.killed {
				end(t, db, conn)
			}
			if got := execute(t, db.URL, "status"); !strings.Contains(got.stdout, test.status) {
				t.Errorf("status: %+v", got)
			}
			found, code := examine(t, db.URL)
			if f := found["subscriptions"]; code == 0 || len(f) != 1 || !strings.Contains(f[0].Problem, test.doctor) {
				t.Errorf("doctor: %+v", found)
			}
		})
	}
}

// end ends a worker's connection, and waits until the server knows.
func end(t *testing.T, db *pgtest.DB, conn *pgx.Conn) {
	t.Helper()
	if err := conn.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for alive := true; alive; {
		if err := db.Pool.QueryRow(t.Context(), `select exists (select from outbox.workers w where `+engine.LiveSQL+`)`).Scan(&alive); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the worker is taken for live 20 s after its connection was closed")
		}
	}
}
