package main

import (
	"encoding/json"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/producer"
)

// TestPrivileges gives roles what docs/operations.md grants, and no more. A publisher, a producer, workers and those who operate them
// have to get along with that.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t) // of its own: roles are the server's
	urlOf := func(role string) string {
		parsed, err := url.Parse(server.URL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		parsed.User = url.UserPassword(role, "secret")
		return parsed.String()
	}
	connect := func(url string) *pgxpool.Pool {
		pool, err := pgxpool.New(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return pool
	}
	owner := connect(server.URL("postgres"))
	for _, set := range []migrations.Set{migrations.Outbox, migrations.Signals} {
		if err := owner.AcquireFunc(t.Context(), func(c *pgxpool.Conn) error { return apply.Up(t.Context(), c.Conn(), set) }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := owner.Exec(t.Context(), `
		create role shop login password 'secret';
		create role worker login password 'secret';
		create role producer login password 'secret' in role shop; -- "besides a publisher's"
		`+documented(t)); err != nil {
		t.Fatal(err)
	}

	events := []outbox.Event{{Topic: "signals.by.shop", Payload: json.RawMessage(`1`)}, {Topic: "signals.by.shop", Key: "held", Payload: json.RawMessage(`{"name": "slow"}`)}}
	for range 300 { // of a key that is held while the first of them is slow
		events = append(events, outbox.Event{Topic: "signals.by.shop", Key: "held", Payload: json.RawMessage(`2`)})
	}
	if _, err := outbox.Publish(t.Context(), connect(urlOf("shop")), events...); err != nil {
		t.Errorf("publish: %v", err)
	}
	signals := connect(urlOf("producer"))
	store := func(names ...string) {
		for _, name := range names {
			if _, err := producer.Store(t.Context(), signals, producer.Signal{Name: name, Value: 1}); err != nil {
				t.Errorf("store: %v", err)
			}
		}
	}
	store("fail-twice", "slow", "dead", "skip", "pressure")

	// Two of them: one is killed, and its lanes are the other's.
	args := []string{"--database-url", urlOf("worker"), "--subscription", "s", "--handler", "flaky", "--initial-interval", "10ms", "--retention", "1ms"}
	first := spawn(t, args...)
	first.await(t, "serving", 1)
	eventually(t, time.Minute, "a key is held", func() bool {
		var held bool
		err := owner.QueryRow(t.Context(), `select exists (select from outbox.held_keys)`).Scan(&held)
		return err == nil && held
	})
	second := start(t, args...)
	second.await(t, "serving", 1)
	first.Signal(syscall.SIGKILL)
	second.await(t, "evicted a dead worker: its lanes are free", 1)
	eventually(t, time.Minute, "all is settled", func() bool { return settled(t, owner) })
	rollups := start(t, "--database-url", urlOf("worker"), "--subscription", "rollup", "--handler", "rollup", "--retention", "1ms")
	store("pressure")
	// What all have settled goes because of its age.
	eventually(t, time.Minute, "the log is empty", func() bool {
		status, err := admin.GetStatus(t.Context(), owner)
		return err == nil && len(status.Subscriptions) == 2 && status.Log.OldestAt == nil
	})

	operator := connect(urlOf("worker"))
	dead := admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Dead}}
	if n, err := admin.SkipDeliveries(t.Context(), operator, dead, "enough"); n != 1 || err != nil {
		t.Errorf("skip: %d, %v", n, err)
	}
	for what, do := range map[string]func() error{
		"pause":  func() error { return admin.Pause(t.Context(), operator, "s") },
		"resume": func() error { return admin.Resume(t.Context(), operator, "s") },
		"rewind": func() error {
			_, err := admin.Rewind(t.Context(), operator, "s", outbox.FromBeginning)
			return err
		},
		"replay": func() error {
			_, err := admin.Replay(t.Context(), operator, "s", admin.EventFilter{MinID: 1}, admin.ReplayOptions{})
			return err
		},
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, r := range []*running{second, rollups} {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		for _, line := range r.lines {
			if strings.Contains(line.Error, "permission denied") {
				t.Errorf("%s: %s", line.Msg, line.Error)
			}
		}
		r.mu.Unlock()
	}
	if err := admin.DeleteSubscription(t.Context(), operator, "s", true); err != nil {
		t.Errorf("delete: %v", err)
	}
}

// documented returns the statements of the documentation about privileges.
func documented(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(raw), "\n## Privileges\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var all strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(section, -1) {
		all.WriteString(block[1])
	}
	for _, role := range []string{"shop", "producer", "worker"} {
		if !strings.Contains(all.String(), " to "+role+";") {
			t.Fatalf("docs/operations.md grants nothing to %s:\n%s", role, &all)
		}
	}
	return all.String()
}
