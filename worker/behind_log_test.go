package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestLogWentBack has a running worker notice that it would lose events, and what was published since is nowhere said to be delivered. How soon it
// notices is for TestNoticedInTime: here it depends on how busy the machine is.
func TestLogWentBack(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t) // of its own: roles are the server's
	if _, err := connect(t, server).Exec(t.Context(), `create role worker login; grant pg_read_all_data, pg_write_all_data to worker`); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		fault string
		want  error
		fates bool // whether events that nobody has seen are below the cursors
	}{
		"ids went back":                  {`select setval('outbox.events_id_seq', 3)`, outbox.ErrLogBehind, true},
		"ids went back, without lanes":   {`update outbox.subscriptions set paused_at = now(); select pg_sleep(2); select setval('outbox.events_id_seq', 3)`, outbox.ErrLogBehind, true},
		"ids of workers went back":       {`alter sequence outbox.workers_id_seq restart`, outbox.ErrLogBehind, false},
		"data of another outbox arrives": {`insert into outbox.cluster (system_identifier, relations) values (1, '{}')`, outbox.ErrForeignCluster, false},
		"events are hidden":              {`alter table outbox.events enable row level security`, outbox.ErrRowSecurity, false},
		"lanes are hidden":               {`alter table outbox.lanes enable row level security`, outbox.ErrRowSecurity, false},
		"workers are hidden":             {`alter table outbox.workers enable row level security`, outbox.ErrRowSecurity, false},
		"the schema does not serve it":   {`update public.signalbox_outbox_version set version = 99, serves = 99`, &migrations.VersionError{}, false},
		"topics change":                  {`set session_replication_role = replica; update outbox.subscriptions set topics = array['a.x', 'b']`, &outbox.TopicsError{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			owner := database(t, server, strings.NewReplacer(" ", "_", ",", "").Replace(name))
			config := owner.Config()
			config.ConnConfig.RuntimeParams["role"] = "worker"
			pool, err := pgxpool.NewWithConfig(ctx, config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			w, err := worker.New(pool, worker.Config{Logger: testLogger(t)})
			if err != nil {
				t.Fatal(err)
			}
			l := newLedger()
			if err := worker.Handle(w, worker.Subscription{Name: "s", Topics: everything}, record(l)); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			running, stop := context.WithCancel(ctx)
			defer stop()
			go func() { ended <- w.Run(running) }()
			publish(t, owner, "old", 0, 10)
			l.waitFor(t, 10)
			eventually(t, 20*time.Second, "all is settled", func() bool { return settledLag(t, owner) })

			conn, err := owner.Acquire(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Conn().PgConn().Exec(ctx, test.fault).ReadAll(); err != nil {
				t.Fatal(err)
			}
			_ = conn.Hijack().Close(ctx) // with its settings
			since := time.Now()
			publish(t, owner, "new", 0, 1)
			select {
			case err = <-ended:
			case <-time.After(30 * time.Second):
				t.Fatal("the worker goes on")
			}
			t.Logf("noticed after %v", time.Since(since))
			if !errors.Is(err, test.want) && !alike[*outbox.TopicsError](err, test.want) && !alike[*migrations.VersionError](err, test.want) {
				t.Errorf("the worker ended with %v; want %v", err, test.want)
			}
			if !test.fates {
				return
			}
			if handled := len(l.all()); handled != 10 {
				t.Errorf("%d events were handled", handled)
			}
			row, err := admin.GetEvent(ctx, owner, 4) // an old one, and a new one if that is in another lane
			if err != nil || len(row.Fates) != 1 || row.Fates[0].Fate != admin.FateUnknown {
				t.Errorf("the fate is %+v, %v", row, err)
			}
		})
	}
}

// alike reports whether two errors are of a type.
func alike[E error](err, want error) bool {
	return errors.As(err, new(E)) && errors.As(want, new(E))
}

// database returns the owner's pool for another database of a server, with the schema.
func database(t *testing.T, server *embeddedpg.Server, name string) *pgxpool.Pool {
	t.Helper()
	if _, err := connect(t, server).Exec(t.Context(), "create database "+pgx.Identifier{name}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), server.URL(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := pool.AcquireFunc(t.Context(), func(c *pgxpool.Conn) error { return apply.Up(t.Context(), c.Conn(), migrations.Outbox) }); err != nil {
		t.Fatal(err)
	}
	return pool
}
