package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	stdout, err := run(t, "status", "--database-url", db.URL)
	const nothing = "There is no subscription yet: a worker creates its own when it starts.\n\nNo worker is there.\n\n" +
		"The doorbell is unattended: no worker answers it.\n"
	if err != nil || stdout != nothing {
		t.Errorf("of an empty outbox: %v\n%s", err, stdout)
	}

	// One subscription has 30 events to read; a worker owns 24 of its lanes, and two events failed. Another reads from now on.
	for _, name := range []string{"log", "audit"} {
		start := outbox.FromBeginning
		if name == "audit" {
			start = outbox.FromNow
		}
		if name == "log" {
			const publish = `
				insert into outbox.events (topic, payload) select case when n <= 30 then 'signals.x' else 'other' end, '{}' from generate_series(1, 50) n`
			if _, err := db.Pool.Exec(t.Context(), publish); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := engine.Subscribe(t.Context(), db.Pool, name, []string{"signals.>"}, start); err != nil {
			t.Fatal(err)
		}
	}
	const state = `
		with w as (
		    insert into outbox.workers (name, direct, lease, seen_at) values ('host:1', false, '1 h', clock_timestamp() - interval '3 minutes') returning id
		), m as (
		    insert into outbox.members (worker_id, subscription_id, topics) select w.id, s.id, s.topics from w, outbox.subscriptions s where s.name = 'log'
		), l as (
		    update outbox.lanes l set owner = w.id from w, outbox.subscriptions s
		    where s.name = 'log' and l.subscription_id = s.id and l.lane < 24
		)
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, due_at)
		select s.id, n, 0, 'signals.x', '{}', '{}', now(), case n when 1 then 'retrying' else 'dead' end, now()
		from outbox.subscriptions s, generate_series(1, 3) n where s.name = 'log'`
	if _, err := db.Pool.Exec(t.Context(), state); err != nil {
		t.Fatal(err)
	}

	stdout, err = run(t, "status", "--database-url", db.URL)
	if err != nil {
		t.Fatal(err)
	}
	if want := "! log has 2 dead letters: outbox deliveries groups -s log\n\nSUBSCRIPTION"; !strings.HasPrefix(stdout, want) {
		t.Errorf("it does not begin with %q:\n%s", want, stdout)
	}
	for _, want := range [][]string{
		{"SUBSCRIPTION", "TOPICS", "LAG", "OLDEST UNFINISHED", "DELIVERIES", "HELD KEYS", "LANES"},
		{"audit", "signals.>", "0", "-", "-", "-", "free: 64"},
		{"log", "signals.>", "30", "", "dead: 2, retrying: 1", "-", "free: 40, host:1: 24"},
		{"WORKER", "ID", "SUBSCRIPTIONS", "UP", "SEEN", "ROLE"},
		{"host:1", "1", "log", "", "", "-"},
	} {
		if !hasRow(stdout, want) {
			t.Errorf("no row %q in\n%s", want, stdout)
		}
	}

	succeed(t, db, "subscriptions", "pause", "log")
	if text := succeed(t, db, "status"); !strings.HasPrefix(text, "! log has been paused for ") {
		t.Errorf("it does not say that it is paused:\n%s", text)
	}
	stdout, err = run(t, "status", "--json", "--database-url", db.URL)
	var status admin.Status
	if err != nil || strings.Count(stdout, "\n") != 1 || json.Unmarshal([]byte(stdout), &status) != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if len(status.Subscriptions) != 2 || len(status.Workers) != 1 || status.Doorbell != admin.DoorbellUnattended {
		t.Fatalf("status: %+v", status)
	}
	log := status.Subscriptions[1]
	if audit := status.Subscriptions[0]; audit.PausedAt != nil || log.PausedAt == nil {
		t.Errorf("paused: %v, %v", audit.PausedAt, log.PausedAt)
	}
	if log.Lag.Events != 30 || log.Lag.Seconds <= 0 || log.Lag.Estimated {
		t.Errorf("lag: %+v", log.Lag)
	}
	if diff := cmp.Diff(map[int64]int{0: 40, status.Workers[0].ID: 24}, log.Lanes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[outbox.State]int64{"dead": 2, "retrying": 1}, log.Deliveries); diff != "" {
		t.Error(diff)
	}
}

// hasRow reports whether a line of a table has these cells; empty ones may be anything.
func hasRow(table string, cells []string) bool {
	for line := range strings.Lines(table) {
		got := strings.Split(strings.TrimRight(line, " \n"), "   ")
		got = strings.FieldsFunc(strings.Join(got, "\x00"), func(r rune) bool { return r == 0 })
		same := len(got) == len(cells)
		for i := range cells {
			same = same && (cells[i] == "" || strings.TrimSpace(got[i]) == cells[i])
		}
		if same {
			return true
		}
	}
	return false
}

func TestStatusText(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 14, 0, 0, 0, time.UTC)
	noon := now.Add(-2 * time.Hour)
	status := &admin.Status{
		At: now,
		Concerns: []admin.Concern{
			{Subscription: "audit", Kind: admin.ConcernDead, Events: 20},
			{Subscription: "audit", Kind: admin.ConcernBlocked, Events: 1203},
			{Subscription: "audit", Kind: admin.ConcernHeldKeys, Events: 2, Since: &noon},
			{Subscription: "idle", Kind: admin.ConcernFailing, Since: &noon},
			{Subscription: "idle", Kind: admin.ConcernBreaker, Since: &noon},
			{Subscription: "idle", Kind: admin.ConcernFull, Events: 64},
			{Subscription: "mails", Kind: admin.ConcernPaused, Since: &noon},
			{Subscription: "mails", Kind: admin.ConcernDead, Events: 1},
			{Subscription: "mails", Kind: admin.ConcernHolds, Since: &noon},
			{Subscription: "two\nlines", Kind: admin.ConcernUnserved, Events: 1},
			{Subscription: "two\nlines", Kind: admin.ConcernHolds, Since: &noon},
		},
		Subscriptions: []admin.SubscriptionStatus{
			{
				Name: "audit", Topics: []string{"signals.>", "alarms.*"}, Lag: admin.Lag{Events: 123456, Estimated: true, Seconds: 3725.4},
				Oldest:     &admin.OldestEvent{PublishedAt: noon, State: admin.Blocked},
				Deliveries: map[outbox.State]int64{"running": 1, "dead": 20, "retrying": 2, "blocked": 1203}, Lanes: map[int64]int{12: 32, 7: 30, 0: 2},
				HeldKeys: 2,
			},
			{Name: "idle", Topics: []string{">"}, Lanes: map[int64]int{0: 64}},
			{Name: "mails", Topics: []string{">"}, PausedAt: &noon, Deliveries: map[outbox.State]int64{"dead": 1}, Lanes: map[int64]int{0: 64}},
			{Name: "two\nlines", Topics: []string{">"}, Lag: admin.Lag{Events: 1, Seconds: 0.25}, Lanes: map[int64]int{7: 64}},
		},
		Workers: []admin.WorkerStatus{
			{ID: 7, Name: "a", StartedAt: now.Add(-26 * time.Hour), SeenAt: now.Add(-420 * time.Millisecond), Live: true, Sentinel: true, Subscriptions: []string{"audit", "x"}},
			{ID: 12, Name: "b", StartedAt: now.Add(-5 * time.Second), SeenAt: now.Add(time.Millisecond), Live: true},
		},
		Doorbell: "armed",
		Log:      admin.LogStatus{OldestID: 17, OldestAt: &noon, HeldBy: []string{"mails", "two\nlines"}, LastID: 200},
	}
	const want = `
! audit has 20 dead letters: outbox deliveries groups -s audit
! audit has events behind failed ones of their keys, and 1,203 events wait: outbox subscriptions show audit
! audit holds 2 keys, the first for 2h0m0s: outbox keys list -s audit
! idle has failed for 2h0m0s: outbox deliveries groups -s idle --state retrying
! idle has an open breaker for 2h0m0s, because nearly every attempt fails: outbox deliveries groups -s idle --state retrying; to try now: outbox subscriptions probe idle
! idle does not read 64 lanes, where so many events failed or wait behind one that did: outbox deliveries groups -s idle --state retrying
! mails has been paused for 2h0m0s: outbox subscriptions resume mails
! mails has 1 dead letter: outbox deliveries groups -s mails
! mails has yet to settle event 17, which is 2h0m0s old: the log is kept for it: outbox subscriptions show mails
! "two\nlines" has no worker, and 1 event waits: start one, or see outbox subscriptions show $'two\012lines'
! "two\nlines" has yet to settle event 17, which is 2h0m0s old: the log is kept for it: outbox subscriptions show $'two\012lines'

SUBSCRIPTION   TOPICS               LAG       OLDEST UNFINISHED    DELIVERIES            HELD KEYS   LANES
audit          signals.> alarms.*   ~123456   2h0m0s, blocked    blocked: 1203, dead: 20, retrying: 2, running: 1  2  free: 2, a: 30, b: 32
idle           >                    0         -         -      -               free: 64
mails          >                    0         -         dead: 1       -        free: 64
"two\nlines"   >                    1         -     -     -                a: 64

WORKER   ID   SUBSCRIPTIONS   UP        SEEN        ROLE
a        7    audit x         26h0m0s   400ms ago   sentinel
b        12   -               5s        0s ago      -

The doorbell is armed: publishers ring it.
The log begins with event 17, 2h0m0s ago, which is yet to be settled by mails, "two\nlines".
`
	// The width of columns is tabwriter's affair.
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	got := statusText("", status)
	if diff := cmp.Diff(squeeze(want), squeeze(got)); diff != "" {
		t.Errorf("%s\n%s", diff, got)
	}
	var columns []int
	for line := range strings.Lines(got) {
		if i := strings.Index(line, "~123456"); i >= 0 {
			columns = append(columns, i)
		}
		if i := strings.Index(line, "LAG"); i >= 0 {
			columns = append(columns, i)
		}
	}
	if len(columns) != 2 || columns[0] != columns[1] {
		t.Errorf("the columns are not aligned:\n%s", got)
	}
}

// Workers of one name own different lanes.
func TestLanesText(t *testing.T) {
	t.Parallel()
	workers := []admin.WorkerStatus{{ID: 7, Name: "pod"}, {ID: 8, Name: "pod"}, {ID: 9, Name: "other"}}
	if got, want := lanesText(workers, map[int64]int{7: 30, 8: 20, 9: 10, 0: 4}), "free: 4, other: 10, pod #7: 30, pod #8: 20"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
