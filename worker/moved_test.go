package worker_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// TestMoved moves a log in ways that keep less than a dump or a copy of files does. It has ten settled events, one whose transaction
// has committed after cursors passed it, and one that was not read. Workers refuse to serve it until it is mended, and then handle
// the last two, and what was published since.
func TestMoved(t *testing.T) {
	t.Parallel()
	for name, move := range map[string]struct {
		settings map[string]string
		to       func(t *testing.T, old *embeddedpg.Server) *embeddedpg.Server
		after    engine.Move
		mended   engine.Mended
	}{
		// As "outbox migrate" on the new server, and then the data.
		"data only": {nil, func(t *testing.T, old *embeddedpg.Server) *embeddedpg.Server {
			t.Helper()
			other := pgtest.Server(t)
			migrated(t, other)
			pipe(t, old, other, []string{"--format=custom", "--data-only"}, "--data-only", "--disable-triggers")
			return other
		}, engine.Restore, engine.Mended{Adopted: true}},

		// The same system identifier, and transaction ids that are yet to come.
		"dump into a copy of the files": {nil, func(t *testing.T, old *embeddedpg.Server) *embeddedpg.Server {
			t.Helper()
			other := pgtest.Copy(t, old)
			if _, err := connect(t, other).Exec(t.Context(), `drop schema outbox cascade; drop table public.signalbox_outbox_version`); err != nil {
				t.Fatal(err)
			}
			if _, err := connect(t, old).Exec(t.Context(), `do 'begin for i in 1 .. 1000 loop perform pg_current_xact_id(); commit; end loop; end'`); err != nil {
				t.Fatal(err)
			}
			pipe(t, old, other, []string{"--format=custom"})
			return other
		}, engine.Restore, engine.Mended{Adopted: true}},

		// Transaction ids go on, in a cluster with another identifier.
		"pg_upgrade": {nil, func(t *testing.T, old *embeddedpg.Server) *embeddedpg.Server {
			t.Helper()
			programs(t, old, "pg_upgrade", "pg_dumpall", "psql", "vacuumdb")
			other := pgtest.Upgrade(t, old, "")
			var same bool
			if err := connect(t, other).QueryRow(t.Context(), `
				select c.relations = array['outbox.events'::regclass::oid, 'outbox.topic'::regtype::oid] from outbox.cluster c`).Scan(&same); err != nil || !same {
				t.Errorf("pg_upgrade keeps the table and the type: %t, %v", same, err)
			}
			return other
		}, engine.PgUpgrade, engine.Mended{Adopted: true}},

		// The tables, and not their sequences, which follow what arrives.
		"logical replication": {map[string]string{"wal_level": "logical"}, func(t *testing.T, old *embeddedpg.Server) *embeddedpg.Server {
			t.Helper()
			other := pgtest.Server(t)
			pipe(t, old, other, []string{"--format=custom", "--schema-only"})
			replicate(t, old, other)
			return other
		}, engine.Replication, engine.Mended{Adopted: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			old := server(t, move.settings)
			pool := migrated(t, old)
			l := newLedger()
			stop := start(t, pool, worker.Config{Logger: testLogger(t)}, worker.Subscription{Name: "s", Topics: everything}, record(l))
			late := openWith(t, old, "late")
			publish(t, pool, "settled", 0, 10)
			l.waitFor(t, 10)
			stop()
			if err := late.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			publish(t, pool, "unread", 0, 1)

			moved := connect(t, move.to(t, old))
			publish(t, moved, "new", 0, 5)
			l = newLedger()
			w, err := worker.New(moved, worker.Config{Logger: testLogger(t)})
			if err != nil {
				t.Fatal(err)
			}
			if err := worker.Handle(w, worker.Subscription{Name: "s"}, record(l)); err != nil {
				t.Fatal(err)
			}
			if err := w.Run(ctx); !errors.Is(err, outbox.ErrForeignCluster) {
				t.Fatalf("workers say %v, want ErrForeignCluster", err)
			}
			conn, err := moved.Acquire(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			var says *engine.MovedError
			if got, err := engine.Mend(ctx, conn.Conn(), ""); !errors.As(err, &says) || says.Likely != move.after || got != (engine.Mended{}) {
				t.Fatalf("mended %+v, %v; want advice to say --after %s", got, err, move.after)
			}
			if got, err := engine.Mend(ctx, conn.Conn(), move.after); err != nil || got != move.mended {
				t.Fatalf("mended %+v, %v; want %+v", got, err, move.mended)
			}
			if got, err := engine.Mend(ctx, conn.Conn(), move.after); err != nil || got != (engine.Mended{}) {
				t.Fatalf("mended again: %+v, %v", got, err)
			}
			start(t, moved, worker.Config{Logger: testLogger(t)}, worker.Subscription{Name: "s"}, record(l))
			publish(t, moved, "last", 0, 1)
			l.waitFor(t, 3+1+5+1)
			eventually(t, 30*time.Second, "all is settled", func() bool { return settledAll(t, moved) })
			keys := map[string]int{}
			for _, e := range l.all() {
				keys[e.Key]++
			}
			if want := map[string]int{"late": 3, "unread": 1, "new": 5, "last": 1}; fmt.Sprint(keys) != fmt.Sprint(want) {
				t.Errorf("handled %v, want %v", keys, want)
			}
		})
	}
}

// server is one with settings that count from its start on.
func server(t *testing.T, settings map[string]string) *embeddedpg.Server {
	t.Helper()
	s := pgtest.Server(t)
	if len(settings) == 0 {
		return s
	}
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range settings {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf("alter system set %s = '%s'", name, value)); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.Close(t.Context())
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// pipe restores a dump of one server's database in another's. Without PostgreSQL's client programs, it skips the test.
func pipe(t *testing.T, from, to *embeddedpg.Server, dump []string, restore ...string) {
	t.Helper()
	bin := programs(t, from, "pg_dump", "pg_restore")
	file := filepath.Join(t.TempDir(), "dump")
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "pg_dump"), append(dump, "--file="+file, from.URL("postgres"))...).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_dump: %v\n%s", err, out)
	}
	// It goes on after errors, as with rows that are there already.
	out, err = exec.CommandContext(t.Context(), filepath.Join(bin, "pg_restore"), append(restore, "--dbname="+to.URL("postgres"), file)...).CombinedOutput()
	t.Logf("pg_restore: %v\n%s", err, out)
}

// programs returns the folder of a server's programs, and skips the test where it lacks some, as the packages from npm do.
func programs(t *testing.T, server *embeddedpg.Server, names ...string) (bin string) {
	t.Helper()
	if err := connect(t, server).QueryRow(t.Context(), `select setting from pg_config where name = 'BINDIR'`).Scan(&bin); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			t.Skipf("there is no %s in %s", name, bin)
		}
	}
	return bin
}

// replicate copies the rows of all tables by logical replication, and ends that.
func replicate(t *testing.T, from, to *embeddedpg.Server) {
	t.Helper()
	exec := func(pool *pgxpool.Pool, sql string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	source, target := connect(t, from), connect(t, to)
	u, err := url.Parse(from.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	exec(source, `create publication everything for all tables`)
	exec(target, `create subscription moving connection '`+u.String()+`' publication everything`)
	eventually(t, 60*time.Second, "all is copied", func() (done bool) {
		err := target.QueryRow(t.Context(), `select not exists (select from pg_subscription_rel where srsubstate <> 'r')`).Scan(&done)
		return err == nil && done
	})
	exec(target, `drop subscription moving`)
}
