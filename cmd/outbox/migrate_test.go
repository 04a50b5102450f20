package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"--set", "signals"}, "signals: from version 0 to 2\n"},
		{nil, "outbox: from version 0 to 2\nsignals: up to date\n"},
		{nil, "outbox: up to date\nsignals: up to date\n"},
		{[]string{"--set", "outbox"}, "outbox: up to date\n"},
	} {
		got, err := run(t, append([]string{"migrate", "--database-url", db.URL}, step.args...)...)
		if err != nil || got != step.want {
			t.Errorf("%v: got %q, %v, want %q", step.args, got, err, step.want)
		}
	}
}

// Another program's schema of the same name is nobody's to upgrade.
func TestMigrateForeignSchema(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"outbox":  `create schema outbox`,
		"signals": `create table public.signals (id integer)`,
	} {
		db := pgtest.NewEmpty(t)
		if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		refuse(t, db.URL, 1, "it is not Signalbox's, or its version in public.signalbox_"+name+"_version was lost: use another name for the outbox, or another database", "migrate", "--set", name)
	}
}

// A database of an older binary is brought up to date, with what is in it.
func TestMigrateUpgrades(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	// What migration 2 added goes.
	if _, err := db.Pool.Exec(t.Context(), `
		insert into public.signals (name, value) values ('old', 1);
		drop table public.signal_rollups;
		update public.signalbox_signals_version set version = 1`); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Signals.Check(t.Context(), db.Pool); err == nil {
		t.Fatal("the older schema passes for the current one")
	}
	got, err := run(t, "migrate", "--database-url", db.URL)
	if err != nil || got != "outbox: up to date\nsignals: from version 1 to 2\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := migrations.Signals.Check(t.Context(), db.Pool); err != nil {
		t.Error(err)
	}
	var kept bool
	if err := db.Pool.QueryRow(t.Context(), `select exists (select from public.signals where name = 'old')`).Scan(&kept); err != nil || !kept {
		t.Errorf("the old signal is there: %t, %v", kept, err)
	}
}

// A log that came from elsewhere is adopted when the caller says how it was moved, and workers may start.
func TestMigrateAdopts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sql      string
		advises  string            // what plain "outbox migrate" says
		says     map[string]string // what it says with --after, in this order
		sequence []string
	}{
		"pg_upgrade": {
			`update outbox.cluster set system_identifier = 1`,
			`as after pg_upgrade: run "outbox migrate --after pg_upgrade", or with restore or replication in its place if it was moved so`,
			map[string]string{"pg_upgrade": ""},
			[]string{"pg_upgrade"},
		},
		"restore": {
			`insert into outbox.cluster (system_identifier, relations) values (1, '{}')`,
			`as after a dump was restored: run "outbox migrate --after restore", or with pg_upgrade or replication in its place if it was moved so`,
			map[string]string{
				"pg_upgrade": `this is not what pg_upgrade leaves: the rows of another outbox were added to one that was migrated here: run "outbox migrate" without --after`,
				"restore":    "",
			},
			[]string{"pg_upgrade", "restore"},
		},
		"restore, of the schema as well": {
			`update outbox.cluster set system_identifier = 1, relations = '{1, 2}'`,
			`run "outbox migrate --after restore"`,
			map[string]string{"pg_upgrade": `pg_upgrade keeps the oids of tables, and those of this outbox have changed`, "restore": ""},
			[]string{"pg_upgrade", "restore"},
		},
		"transaction ids to come": {
			`update outbox.cluster set system_identifier = 1;
			 insert into outbox.events (xid, id, topic, payload) overriding system value values ('1000000000', 1, 'a', '1'); select setval('outbox.events_id_seq', 1)`,
			`run "outbox migrate --after restore"`,
			map[string]string{"pg_upgrade": `here and an event has 1000000000`, "restore": ""},
			[]string{"pg_upgrade", "restore"},
		},
		"a cursor that waits for transactions to come": {
			`update outbox.cluster set system_identifier = 1;
			 insert into outbox.subscriptions (name, topics) values ('s', '{a}');
			 insert into outbox.lanes (subscription_id, lane, pending) select id, 0, '{[1000000000, 1000000001)}' from outbox.subscriptions`,
			`run "outbox migrate --after restore"`,
			map[string]string{"pg_upgrade": `here and a cursor waits for 1000000000`, "restore": ""},
			[]string{"pg_upgrade", "restore"},
		},
		"copied rows": {
			`update outbox.cluster set system_identifier = 1;
			 insert into outbox.events (xid, id, topic, payload) overriding system value values ('5', 1, 'a', '1'), ('6', 2, 'a', '1'); select setval('outbox.events_id_seq', 2)`,
			`run "outbox migrate --after restore"`,
			map[string]string{"pg_upgrade": `events of several transactions were written by one here, as from a dump`, "restore": ""},
			[]string{"pg_upgrade", "restore"},
		},
		"replication": {
			`set session_replication_role = replica; insert into outbox.events (xid, id, topic, payload) overriding system value values ('5', 7, 'a', '1')`,
			`events have arrived by logical replication: run "outbox migrate --after replication"`,
			map[string]string{"pg_upgrade": `this is not what pg_upgrade leaves`, "replication": ""},
			[]string{"pg_upgrade", "replication"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			conn := db.Conn(t)
			if _, err := conn.PgConn().Exec(t.Context(), test.sql).ReadAll(); err != nil {
				t.Fatal(err)
			}
			if err := engine.CheckLog(t.Context(), db.Pool); !errors.Is(err, outbox.ErrForeignCluster) {
				t.Fatalf("before: %v", err)
			}
			refuse(t, db.URL, 1, test.advises, "migrate")
			for _, after := range test.sequence {
				if refusal := test.says[after]; refusal != "" {
					refuse(t, db.URL, 1, refusal, "migrate", "--after", after)
					continue
				}
				for _, want := range []string{"came from another server, and was adopted", "nothing to adopt: it is from here, or was adopted before"} {
					got, err := run(t, "migrate", "--after", after, "--database-url", db.URL)
					if err != nil || got != "outbox: up to date\noutbox: "+want+"\nsignals: up to date\n" {
						t.Errorf("--after %s: got %q, %v", after, got, err)
					}
				}
			}
			if err := engine.CheckLog(t.Context(), db.Pool); err != nil {
				t.Errorf("after: %v", err)
			}
		})
	}
}

// Without the privilege to ask for the cluster's identifier, everything works, and says so.
func TestMigrateBlind(t *testing.T) {
	t.Parallel()
	server := ownServer(t) // privileges of functions are a database's, but the role is the server's
	pool := poolOf(t, server.URL("postgres"))
	for _, sql := range []string{
		`create role owner login password 'secret'`, `create database blind owner owner`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	blind := poolOf(t, server.URL("blind"))
	if _, err := blind.Exec(t.Context(), `revoke execute on function pg_control_system() from public`); err != nil {
		t.Fatal(err)
	}
	config := blind.Config().ConnConfig
	url := strings.Replace(server.URL("blind"), config.User+":"+config.Password, "owner:secret", 1)
	const refused = "pg_control_system() is refused to the schema's owner"
	got, err := run(t, "migrate", "--database-url", url)
	if err != nil || !strings.Contains(got, "outbox: "+refused) {
		t.Fatalf("got %q, %v", got, err)
	}
	if err := engine.CheckLog(t.Context(), blind); err != nil {
		t.Error(err)
	}
	if got, err := run(t, "doctor", "--database-url", url); err != nil || !strings.Contains(got, refused) {
		t.Errorf("doctor says %q, %v", got, err)
	}
	// The other signs are there.
	if _, err := blind.Exec(t.Context(), `update outbox.cluster set relations = '{1, 2}'`); err != nil {
		t.Fatal(err)
	}
	refuse(t, url, 1, "outbox migrate --after restore", "migrate")
	if got, err := run(t, "migrate", "--after", "restore", "--database-url", url); err != nil || !strings.Contains(got, "was adopted") {
		t.Errorf("got %q, %v", got, err)
	}
	// What may be asked for from now on was not known before: that is no sign.
	if _, err := blind.Exec(t.Context(), `grant execute on function pg_control_system() to public`); err != nil {
		t.Fatal(err)
	}
	if got, err := run(t, "migrate", "--database-url", url); err != nil || strings.Contains(got, refused) {
		t.Errorf("got %q, %v", got, err)
	}
	if err := engine.CheckLog(t.Context(), blind); err != nil {
		t.Error(err)
	}
}

func poolOf(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Ids that went back are raised, and what was published meanwhile gets new ones.
func TestMigrateRaises(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishOrders(t, db, 3)
	if _, err := db.Pool.Exec(t.Context(), `select setval('outbox.events_id_seq', 2)`); err != nil {
		t.Fatal(err)
	}
	if err := engine.CheckLog(t.Context(), db.Pool); !errors.Is(err, outbox.ErrLogBehind) {
		t.Fatalf("before: %v", err)
	}
	if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, key, payload) values ('orders.placed', 'again', '1')`); err != nil {
		t.Fatal(err)
	}
	got, err := run(t, "migrate", "--database-url", db.URL)
	if err != nil || got != "outbox: up to date\noutbox: its sequences were behind, and were raised\noutbox: 1 event published meanwhile got a new id (4 to 4): a subscription that had seen some of them sees them again\nsignals: up to date\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := engine.CheckLog(t.Context(), db.Pool); err != nil {
		t.Errorf("after: %v", err)
	}
	var id int64
	if err := db.Pool.QueryRow(t.Context(), `select id from outbox.events where key = 'again'`).Scan(&id); err != nil || id != 4 {
		t.Errorf("the event has id %d, %v", id, err)
	}
}

// Replicas of a service that migrate when they start.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	var processes sync.WaitGroup
	for range 4 {
		processes.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "migrate")
			cmd.Env = append(os.Environ(), asCommand+"=1", "DATABASE_URL="+db.URL)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	processes.Wait()
	for _, set := range bothSets(outbox.Outbox{}) {
		if err := set.Check(t.Context(), db.Pool); err != nil {
			t.Error(err)
		}
	}
}

// Who migrates with tern itself gets the same.
func TestTernMakesTheSameSchema(t *testing.T) {
	t.Parallel()
	ours, terns := pgtest.NewEmpty(t), pgtest.NewEmpty(t)
	if _, err := run(t, "migrate", "--database-url", ours.URL); err != nil {
		t.Fatal(err)
	}
	for _, set := range bothSets(outbox.Outbox{}) {
		cmd := exec.CommandContext(t.Context(), "go", "tool", "tern", "migrate")
		cmd.Dir = "../../migrations/" + set.String()
		cmd.Env = append(os.Environ(), "DATABASE_URL="+terns.URL)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("tern migrate in %s: %v\n%s", cmd.Dir, err, out)
		}
	}
	want, got := schemaOf(t, ours), schemaOf(t, terns)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tern's schema differs (-ours +tern's):\n%s", diff)
	}
	for _, part := range []string{"outbox.events.xid xid8", "doorbell", "events_lane_id", "signalbox_signals_version", "fence"} {
		if !strings.Contains(strings.Join(want, "\n"), part) {
			t.Errorf("the comparison does not see %s", part)
		}
	}
	for _, set := range []migrations.Set{migrations.Outbox, migrations.Signals} {
		if err := set.Check(t.Context(), terns.Pool); err != nil {
			t.Error(err)
		}
	}
}

// schemaOf describes everything in a database that is not PostgreSQL's own, a line for each thing.
func schemaOf(t *testing.T, db *pgtest.DB) []string {
	t.Helper()
	rows, _ := db.Pool.Query(t.Context(), `
		with ours as (
		    select n.oid from pg_namespace n where n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
		)
		select concat_ws(' ', 'relation', c.oid::regclass, c.relkind, c.relreplident, c.reloptions, c.relacl, obj_description(c.oid, 'pg_class'))
		from pg_class c where c.relnamespace in (select * from ours)
		union all
		select concat_ws(' ', 'column', format('%s.%s', a.attrelid::regclass, a.attname), format_type(a.atttypid, a.atttypmod), a.attnum,
		                 a.attnotnull, nullif(a.attidentity, ''), nullif(a.attgenerated, ''), pg_get_expr(d.adbin, d.adrelid), a.attoptions, a.attstorage)
		from pg_class c
		join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
		left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
		where c.relnamespace in (select * from ours)
		union all
		select concat_ws(' ', 'constraint', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid))
		from pg_constraint c where c.connamespace in (select * from ours)
		union all
		select concat_ws(' ', 'index', pg_get_indexdef(c.oid))
		from pg_class c where c.relkind = 'i' and c.relnamespace in (select * from ours)
		union all
		select concat_ws(' ', 'sequence', s.seqrelid::regclass, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqcache, s.seqcycle)
		from pg_sequence s join pg_class c on c.oid = s.seqrelid where c.relnamespace in (select * from ours)
		union all
		select concat_ws(' ', 'function', case p.proname when 'tag' then 'tag, by chance' else pg_get_functiondef(p.oid) end, p.proacl)
		from pg_proc p where p.pronamespace in (select * from ours)
		union all
		select concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), t.tgenabled)
		from pg_trigger t where not t.tgisinternal
		union all
		select concat_ws(' ', 'schema', n.nspname, n.nspacl)
		from pg_namespace n where n.oid in (select * from ours)
		order by 1`)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
