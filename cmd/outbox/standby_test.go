package main

import (
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// TestVerbsAtStandby has each verb that writes say at a standby what that is and what to do, and the others show what is there.
func TestVerbsAtStandby(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	primary := server.URL("postgres")
	for _, args := range [][]string{
		{"subscriptions", "create", "mails", "--topics", ">"},
		{"subscriptions", "set-topics", "mails", "orders.>", "--yes"}, // uses a feature
	} {
		if got := execute(t, primary, args...); got.code != 0 {
			t.Fatalf("%v: %+v", args, got)
		}
	}
	conn, err := pgx.Connect(t.Context(), primary)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.PgConn().Exec(t.Context(), `
		insert into outbox.events (topic, key, payload) values ('orders.placed', 'k', '1'), ('orders.placed', 'k', '2');
		update outbox.lanes set after_id = 1;
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, attempt, due_at, errors)
		select 1, e.id, e.lane, e.topic, e.key, e.payload, e.headers, e.published_at, 'dead', 20, now(), '[]' from outbox.events e where e.id = 1`).ReadAll(); err != nil {
		t.Fatal(err)
	}
	standby := pgtest.Standby(t, server).URL("postgres")
	for _, args := range [][]string{
		{"subscriptions", "create", "other", "--topics", ">"},
		{"subscriptions", "set-topics", "mails", "orders.*", "--yes"},
		{"subscriptions", "pause", "mails"},
		{"subscriptions", "resume", "mails"},
		{"subscriptions", "probe", "mails"},
		{"subscriptions", "delete", "mails", "--yes"},
		{"deliveries", "retry", "-s", "mails", "--yes"},
		{"deliveries", "skip", "-s", "mails", "--reason", "r", "--yes"},
		{"deliveries", "discard", "-s", "mails", "--yes"},
		{"replay", "mails", "--from", "1", "--yes"},
		{"replay", "mails", "--key", "k", "--yes"},
		{"features", "drop", "topics", "--yes"},
		{"migrate"},
		{"migrate", "--after", "restore"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			got := execute(t, standby, args...)
			lines := strings.Split(strings.TrimSpace(got.stderr), "\n") // before the last one, what it was about to do
			if got.code != 1 || got.stdout != "" || len(lines) > 2 || !strings.Contains(lines[len(lines)-1], "the server is a standby") {
				t.Errorf("%+v", got)
			}
		})
	}
	for _, args := range [][]string{
		{"status"},
		{"events", "list"},
		{"events", "show", "1"},
		{"subscriptions", "list"},
		{"subscriptions", "show", "mails"},
		{"deliveries", "list", "-s", "mails"},
		{"deliveries", "groups", "-s", "mails"},
		{"keys", "list", "-s", "mails"},
		{"features", "list"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			if got := execute(t, standby, args...); got.code != 0 || got.stderr != "" {
				t.Errorf("%+v", got)
			}
		})
	}

	// With several hosts, the primary is found; where there is none, that is said.
	one, err := url.Parse(standby)
	if err != nil {
		t.Fatal(err)
	}
	other, err := url.Parse(primary)
	if err != nil {
		t.Fatal(err)
	}
	one.RawQuery = "target_session_attrs=primary"
	refuse(t, one.String(), 1, "no host in DATABASE_URL answers as its target_session_attrs demands", "status")
	one.Host += "," + other.Host
	one.User = other.User
	if got := execute(t, one.String(), "subscriptions", "pause", "mails"); got.code != 0 {
		t.Errorf("with both hosts: %+v", got)
	}
}
