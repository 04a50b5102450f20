package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
)

func named(t *testing.T, name string) outbox.Outbox {
	t.Helper()
	o, err := outbox.In(name)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestAnotherOutbox migrates one of another name, in a database without the default one: nothing of the default's is there, also not in
// the bodies of functions, and all of it is there that the default one has.
func TestAnotherOutbox(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	conn := db.Conn(t)
	for _, name := range []string{"billing", "order", "b" + strings.Repeat("9_", 19) + "z"} {
		set := migrations.For(named(t, name))
		if err := set.Check(t.Context(), conn); !errors.Is(err, migrations.ErrMissing) || !strings.Contains(err.Error(), "outbox migrate --outbox "+name+`"`) {
			t.Errorf("got %v", err)
		}
		if err := apply.Up(t.Context(), conn, set); err != nil {
			t.Fatal(err)
		}
		if err := set.Check(t.Context(), conn); err != nil {
			t.Error(err)
		}
	}
	if set := migrations.For(outbox.Outbox{}); set != migrations.Outbox {
		t.Errorf("the default outbox's set is %v", set)
	}
	for what, sql := range map[string]string{
		"schemas":   `select count(*) from pg_namespace where nspname = 'outbox'`,
		"functions": `select count(*) from pg_proc p where pg_get_functiondef(p.oid) ~ '\moutbox\.|''new_signals''|signalbox\.last_id\M' and p.prokind = 'f' and p.pronamespace::regnamespace::text !~ '^pg_|^information'`,
		"triggers":  `select count(*) from pg_trigger t where pg_get_triggerdef(t.oid) ~ '\moutbox\.|7446925'`,
		"defaults":  `select count(*) from pg_attrdef d where pg_get_expr(d.adbin, d.adrelid) ~ '\moutbox\.'`,
		"tables":    `select count(*) from pg_class c where c.relname like 'signalbox_outbox%'`,
	} {
		var n int
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s of the default outbox: %d, %v", what, n, err)
		}
	}
	// The default one beside them has as much as each of them.
	if err := apply.Up(t.Context(), conn, migrations.Outbox); err != nil {
		t.Fatal(err)
	}
	rows, _ := conn.Query(t.Context(), `
		select n.nspname::text, (select count(*) from pg_class c where c.relnamespace = n.oid), (select count(*) from pg_proc p where p.pronamespace = n.oid),
		       (select count(*) from pg_trigger t join pg_class c on c.oid = t.tgrelid where c.relnamespace = n.oid and not t.tgisinternal)
		from pg_namespace n where n.nspname !~ '^pg_|^public$|^information_schema$'`)
	counts := map[string]bool{}
	for rows.Next() {
		var name string
		var classes, functions, triggers int
		if err := rows.Scan(&name, &classes, &functions, &triggers); err != nil {
			t.Fatal(err)
		}
		counts[fmt.Sprint(classes, functions, triggers)] = true
	}
	if rows.Err() != nil || len(counts) != 1 {
		t.Errorf("relations, functions and triggers of the outboxes: %v, %v", counts, rows.Err())
	}
}

// TestNameTaken refuses to make an outbox of a schema that is somebody else's, and of locks that another outbox or program uses.
func TestNameTaken(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	conn := db.Conn(t)
	if _, err := conn.Exec(t.Context(), `create schema billing; create table billing.bills (id bigint)`); err != nil {
		t.Fatal(err)
	}
	refused := func(o outbox.Outbox, why string) {
		t.Helper()
		err := apply.Up(t.Context(), conn, migrations.For(o))
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want a line with %q", o, err, why)
		}
		if err := migrations.For(o).Check(t.Context(), conn); !errors.Is(err, migrations.ErrMissing) {
			t.Errorf("%s: got %v, want ErrMissing", o, err)
		}
	}
	refused(named(t, "billing"), `schema "billing" already exists`)
	refused(named(t, "public"), `schema "public" already exists`)
	refused(named(t, "information_schema"), `schema "information_schema" already exists`)

	// Two names with the same locks.
	first, second := twins(t)
	if err := apply.Up(t.Context(), conn, migrations.For(first)); err != nil {
		t.Fatal(err)
	}
	refused(second, "are used in this database by another outbox or program: choose another name")

	// An application's lock.
	app := db.Conn(t)
	class, _ := naming.Name("shipping").Locks()
	if _, err := app.Exec(t.Context(), "select pg_advisory_lock("+class+", 17)"); err != nil {
		t.Fatal(err)
	}
	refused(named(t, "shipping"), "are used in this database by another outbox or program")
	if _, err := app.Exec(t.Context(), "select pg_advisory_unlock_all()"); err != nil {
		t.Fatal(err)
	}
	if err := apply.Up(t.Context(), conn, migrations.For(named(t, "shipping"))); err != nil {
		t.Error(err)
	}
}

// twins finds two names whose locks are the same.
func twins(t *testing.T) (first, second outbox.Outbox) {
	t.Helper()
	owners := map[string]string{}
	for i := range 1 << 20 {
		name := fmt.Sprintf("o%d", i)
		class, _ := naming.Name(name).Locks()
		if other, taken := owners[class]; taken {
			return named(t, other), named(t, name)
		}
		owners[class] = name
	}
	t.Fatal("no two names have the same locks")
	return first, second
}

// TestManyOutboxes migrates twenty in one database, by several processes at once.
func TestManyOutboxes(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	var running sync.WaitGroup
	for range 2 {
		conn := db.Conn(t)
		running.Go(func() {
			for i := range 20 {
				o, err := outbox.In(fmt.Sprintf("box%d", i))
				if err == nil {
					err = apply.Up(context.Background(), conn, migrations.For(o))
				}
				if err == nil {
					err = migrations.For(o).Check(context.Background(), conn)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
}

// TestRanges has a database that says which binaries it serves.
func TestRanges(t *testing.T) {
	t.Parallel()
	for _, set := range []migrations.Set{migrations.Outbox, migrations.Signals, migrations.For(named(t, "billing"))} {
		db := pgtest.NewEmpty(t)
		conn := db.Conn(t)
		if err := apply.Up(t.Context(), conn, set); err != nil {
			t.Fatal(err)
		}
		newest, err := set.Newest()
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			version int32
			serves  *int32
			says    string // "" for nothing
		}{
			{newest, nil, ""},
			{newest + 1, nil, fmt.Sprintf("%s schema is at version %d, newer than this binary's %d, and serves binaries from version %d on: upgrade the binary", set, newest+1, newest, newest+1)},
			{newest + 1, ptr(newest), ""},
			{newest + 3, ptr(newest - 1), ""},
			{newest + 3, ptr(newest + 1), "upgrade the binary"},
			{newest - 1, nil, fmt.Sprintf("%s schema is at version %d, this binary needs %d: run \"outbox migrate", set, newest-1, newest)},
			{newest - 1, ptr(1), "run \"outbox migrate"},
		} {
			if _, err := conn.Exec(t.Context(), "update "+set.VersionTable()+" set version = $1, serves = $2", test.version, test.serves); err != nil {
				t.Fatal(err)
			}
			err := set.Check(t.Context(), conn)
			var fault *migrations.VersionError
			if (err == nil) != (test.says == "") || err != nil && (!errors.As(err, &fault) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%s at %d, which serves %v: got %v, want %q", set, test.version, test.serves, err, test.says)
			}
			if test.version > newest {
				if up := apply.Up(t.Context(), conn, set); (up == nil) != (err == nil) {
					t.Errorf("%s at %d: Up says %v, and Check %v", set, test.version, up, err)
				}
			}
		}
	}
}

func ptr(n int32) *int32 { return &n }

// TestMigrationsSayWhatTheyServe wants each later migration to say which binaries its schema serves: none of those before, or from
// which on.
func TestMigrationsSayWhatTheyServe(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"outbox", "signals"} {
		files, err := filepath.Glob(set + "/*.sql")
		if err != nil || len(files) < 2 {
			t.Fatalf("%v, %v", files, err)
		}
		for _, file := range files[2:] {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			up, down, _ := strings.Cut(string(text), "---- create above / drop below ----")
			for what, part := range map[string]string{"up": up, "down": down} {
				if !strings.Contains(part, "update public.signalbox_"+set+"_version set serves = ") {
					t.Errorf("%s, %s: does not say which binaries are served: see CONTRIBUTING.md", file, what)
				}
			}
		}
	}
}

// TestTern has the plain command make the default outbox, and take it away again.
func TestTern(t *testing.T) {
	t.Parallel()
	tern := filepath.Join(t.TempDir(), "tern")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", tern, "github.com/jackc/tern/v2") //nolint:gosec // our own arguments
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build tern: %v\n%s", err, out)
	}
	db := pgtest.NewEmpty(t)
	run := func(set string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), tern, append([]string{"migrate"}, args...)...) //nolint:gosec // our own arguments
		cmd.Dir, cmd.Env = set, append(os.Environ(), "DATABASE_URL="+db.URL)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("tern migrate %v in %s: %v\n%s", args, set, err, out)
		}
	}
	for range 2 { // once more over what is left
		for _, set := range sets {
			run(set.String())
			if err := set.Check(t.Context(), db.Pool); err != nil {
				t.Error(err)
			}
			if err := apply.Up(t.Context(), db.Conn(t), set); err != nil {
				t.Error(err)
			}
		}
		if _, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "a", Payload: []byte("1")}); err != nil {
			t.Error(err)
		}
		for _, set := range sets {
			run(set.String(), "--destination", "0")
			if err := set.Check(t.Context(), db.Pool); !errors.Is(err, migrations.ErrMissing) {
				t.Errorf("%s: got %v, want ErrMissing", set, err)
			}
		}
		var left int
		if err := db.Pool.QueryRow(t.Context(), `select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
			where n.nspname = 'outbox' or n.nspname = 'public' and c.relkind = 'r' and c.relname !~ '_version$'`).Scan(&left); err != nil || left != 0 {
			t.Errorf("%d relations are left, %v", left, err)
		}
	}
}
