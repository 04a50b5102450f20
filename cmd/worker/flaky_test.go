package main

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/producer"
)

// left returns what became of the signals that were not delivered, by name.
func left(t *testing.T, db *pgtest.DB) map[string]admin.Delivery {
	t.Helper()
	list, err := admin.ListDeliveries(t.Context(), db.Pool, admin.DeliveryFilter{
		Subscription: "s", States: []outbox.State{outbox.Retrying, admin.Blocked, outbox.Running, outbox.Dead, outbox.Skipped},
	}, admin.ListOptions{})
	if errors.Is(err, outbox.ErrUnknownSubscription) { // the worker has yet to create it
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]admin.Delivery{}
	for _, row := range list.Items {
		rows[row.Event.Key] = row
	}
	return rows
}

// TestFlaky has a signal for each thing that the handler does short of killing its worker, and one that it just logs.
func TestFlaky(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const attempts = 3
	names := map[string]struct {
		state    outbox.State // "" where it succeeds
		attempts int
		reason   string // of the last failure
	}{
		"fail":       {outbox.Dead, attempts, errOnDemand.Error()},
		"hang":       {outbox.Dead, attempts, "took longer than the subscription's timeout"},
		"panic":      {outbox.Dead, attempts, "handler panicked"},
		"dead":       {outbox.Dead, 1, errOnDemand.Error()},
		"skip":       {outbox.Skipped, 1, errOnDemand.Error()},
		"fail-twice": {attempts: 3},
		"slow":       {attempts: 1},
		"pressure":   {attempts: 1},
	}
	for name := range names {
		if _, err := producer.Store(t.Context(), db.Pool, producer.Signal{Name: name, Value: 1}); err != nil {
			t.Fatal(err)
		}
	}
	// The timeout leaves time for what is slow.
	r := start(t, "--database-url", db.URL, "--subscription", "s", "--handler", "flaky",
		"--max-attempts", "3", "--initial-interval", "10ms", "--timeout", "3s")
	eventually(t, time.Minute, "all is settled", func() bool { return settled(t, db.Pool) })
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	r.mu.Lock()
	rejoined := slices.ContainsFunc(r.lines, func(l logLine) bool { return l.Msg == "stopped serving, will join again" })
	r.mu.Unlock()
	succeeded := map[string]int{}
	for _, line := range r.await(t, "notification received", 3) {
		succeeded[line.Name]++
	}
	rows := left(t, db)
	for name, want := range names {
		row, unfinished := rows[name]
		if times := succeeded[name]; unfinished != (want.state != "") || times > 0 == unfinished || times > 1 && !rejoined {
			t.Errorf("%s succeeded %d times, and left %+v", name, times, row)
			continue
		}
		if !unfinished {
			continue
		}
		if row.State != want.state || row.Attempt != want.attempts || len(row.Failures) != want.attempts {
			t.Errorf("%s left %+v, want it %s after %d attempts", name, row, want.state, want.attempts)
		} else if reason := row.Failures[want.attempts-1].Error; !strings.Contains(reason, want.reason) {
			t.Errorf("%s is %s because %q, want %q", name, row.State, reason, want.reason)
		}
	}
	failures := 0
	lines := r.await(t, "event failed and will be tried again", 1)
	for _, line := range lines {
		if line.EventID == 0 || line.Topic == "" || line.Attempt == 0 {
			t.Errorf("the log does not say which event failed: %+v", line)
		}
		failures += 1 + line.Others
	}
	// Those of fail, hang and panic that were not the last, and two of fail-twice. A worker that loses its session, as on a machine that is
	// busy with other tests, repeats what it has not recorded.
	if want := 3*(attempts-1) + 2; failures < want {
		t.Errorf("the log tells of %d attempts that failed, want at least %d: %+v", failures, want, lines)
	}
}

// TestFlakyKills has a signal that kills each worker it meets. After its attempts it is a dead letter, and the others have been
// delivered.
func TestFlakyKills(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, name := range []string{"before", "kill", "after"} {
		if _, err := producer.Store(t.Context(), db.Pool, producer.Signal{Name: name, Value: 1}); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"--database-url", db.URL, "--subscription", "s", "--handler", "flaky", "--max-attempts", "2", "--initial-interval", "10ms"}
	// Its first life is not known to be one of its victims': an attempt is counted from the second on.
	for range 3 {
		if code := spawn(t, args...).died(t); code != killedCode {
			t.Fatalf("it ended with code %d", code)
		}
	}
	last := spawn(t, args...)
	eventually(t, 30*time.Second, "all is settled", func() bool { return settled(t, db.Pool) })
	if err := last.stop(); err != nil {
		t.Error(err)
	}
	rows := left(t, db)
	if row := rows["kill"]; len(rows) != 1 || row.State != outbox.Dead || row.Failures[len(row.Failures)-1].Error != "its worker died or lost its connection" {
		t.Errorf("left is %+v, want the killer, dead", rows)
	}
}

// A worker that is signalled with its group, as GNU timeout and others do, finishes what it handles.
func TestDrainsOnceSignalledTwice(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := spawn(t, "--database-url", db.URL, "--subscription", "s", "--handler", "flaky")
	p.slowly(t, db)
	p.Signal(syscall.SIGTERM)
	if err := syscall.Kill(-p.Pid(), syscall.SIGINT); err != nil { // not SIGTERM again: the kernel may merge two
		t.Fatal(err)
	}
	if err := p.end(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if rows := left(t, db); len(rows) > 0 {
		t.Errorf("it has not finished %+v", rows)
	}
	p.await(t, "notification received", 1)
}
