package main

import (
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
)

// databaseOf returns a database that has one outbox, with a name.
func databaseOf(t *testing.T, n naming.Name) *pgtest.DB {
	t.Helper()
	if n == "" {
		return pgtest.New(t)
	}
	db := pgtest.NewEmpty(t)
	o, err := outbox.In(n.String())
	if err == nil {
		err = apply.Up(t.Context(), db.Conn(t), migrations.For(o))
	}
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// TestVerbsOfAnotherOutbox runs each verb that looks or changes something, in a database without a default outbox.
func TestVerbsOfAnotherOutbox(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	billing, err := outbox.In("billing")
	if err != nil {
		t.Fatal(err)
	}
	do := func(want string, args ...string) {
		t.Helper()
		got, err := run(t, append(args, "--database-url", db.URL, "--outbox", "billing")...)
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%v: got %q, %v; want %q", args, got, err, want)
		}
	}
	_, err = run(t, "status", "--database-url", db.URL, "--outbox", "billing")
	if err == nil || !strings.Contains(err.Error(), `billing schema is missing in this database: run "outbox migrate --outbox billing"`) {
		t.Errorf("got %v", err)
	}
	do("billing: from version 0 to 2\n", "migrate", "--set", "outbox")
	do("billing: up to date\nsignals: from version 0 to 2\n", "migrate")
	if _, err := billing.Publish(t.Context(), db.Pool, outbox.Event{Topic: "a.b", Key: "k", Payload: []byte(`{"n": 1}`)}); err != nil {
		t.Fatal(err)
	}
	do("", "subscriptions", "create", "s", "--topics", "a.>")
	do("s", "subscriptions", "list")
	do("", "subscriptions", "pause", "s")
	do("", "subscriptions", "resume", "s")
	do("a.b", "events", "list")
	do("a.b", "events", "show", "1")
	do("", "deliveries", "list", "-s", "s")
	do("", "deliveries", "groups", "-s", "s")
	do("", "deliveries", "retry", "-s", "s", "--yes")
	do("", "replay", "s", "--from", "beginning", "--yes")
	do("s", "status")
	do("✔", "doctor")
	do("", "subscriptions", "delete", "s", "--yes", "--force")
	do("", "subscriptions", "create", "t", "--topics", "a.>")
	do("start one, or see outbox subscriptions show --outbox billing t", "status")

	// It is mended, and nothing else is.
	if _, err := db.Pool.Exec(t.Context(), `update billing.cluster set system_identifier = 1; select setval('billing.workers_id_seq', 9);
		insert into billing.workers (name, direct, lease) values ('w', false, '1 s'); select setval('billing.workers_id_seq', 1)`); err != nil {
		t.Fatal(err)
	}
	_, err = run(t, "doctor", "--database-url", db.URL, "--outbox", "billing")
	if err == nil {
		t.Error("doctor finds nothing wrong with a log from elsewhere")
	}
	_, err = run(t, "migrate", "--database-url", db.URL, "--outbox", "billing")
	if err == nil || !strings.Contains(err.Error(), `run "outbox migrate --outbox billing --after pg_upgrade"`) {
		t.Errorf("migrate says %v", err)
	}
	do("billing: came from another server, and was adopted\nbilling: its sequences were behind, and were raised\nsignals: up to date\n", "migrate", "--after", "pg_upgrade")
	do("✔", "doctor")
	for want, args := range map[string][]string{
		`("outbox subscriptions list --outbox billing" shows which there are)`: {"subscriptions", "pause", "gone"},
		`"outbox events show --outbox billing 9" says what became of it`:       {"deliveries", "show", "9", "-s", "t"},
	} {
		if _, err := run(t, append(args, "--database-url", db.URL, "--outbox", "billing")...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", args, err, want)
		}
	}
	var n int
	if err := db.Pool.QueryRow(t.Context(), `select count(*) from pg_namespace where nspname = 'outbox'`).Scan(&n); err != nil || n != 0 {
		t.Errorf("there is a default outbox: %d, %v", n, err)
	}
	for _, name := range []string{"Billing", "pg_temp", "signals", "a.b", ""} {
		_, err := run(t, "status", "--database-url", db.URL, "--outbox", name)
		if err == nil || !strings.Contains(err.Error(), "invalid name of an outbox") || strings.Contains(err.Error(), "\n") {
			t.Errorf("--outbox %q: got %v", name, err)
		}
	}
}

// TestOutboxOfTheEnvironment chooses by OUTBOX_NAME, and a flag before that.
func TestOutboxOfTheEnvironment(t *testing.T) {
	db := databaseOf(t, "billing")
	t.Setenv("OUTBOX_NAME", "billing")
	if got, err := run(t, "migrate", "--set", "outbox", "--database-url", db.URL); err != nil || got != "billing: up to date\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := run(t, "status", "--database-url", db.URL, "--outbox", "outbox"); err == nil || !strings.Contains(err.Error(), "outbox schema is missing") {
		t.Errorf("got %v", err)
	}
}
