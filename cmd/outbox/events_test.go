package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/uid"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// publishOrders stores n events of ten keys, an hour apart, the last one an hour ago. It returns their ids.
func publishOrders(t *testing.T, db *pgtest.DB, n int) []int64 {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), `
		insert into outbox.events (topic, key, payload, headers, published_at)
		select case n % 2 when 0 then 'orders.even' else 'orders.odd' end, 'k' || n % 10, jsonb_build_object('n', n, 'to', jsonb_build_object('city', n % 3)),
		       '{"trace": "abc"}', now() - make_interval(hours => $1 - n + 1)
		from generate_series(1, $1::integer) n
		returning id`, n)
	if err != nil {
		t.Fatal(err)
	}
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return ids
}

// interrupt is Ctrl-C.
func interrupt(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t *testing.T, db *pgtest.DB, name string, topics ...string) {
	t.Helper()
	if _, err := engine.Subscribe(t.Context(), db.Pool, name, topics, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
}

func idsOf(events []outbox.Event) (ids []int64) {
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	return ids
}

func TestEventsList(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if got := succeed(t, db, "events", "list"); got != "No event matches.\n" {
		t.Errorf("of an empty log: %q", got)
	}
	ids := publishOrders(t, db, 30)
	for name, test := range map[string]struct {
		args []string
		want []int64
	}{
		"everything": {nil, ids},
		"topic":      {[]string{"--topic", "orders.odd", "--limit", "2"}, []int64{ids[0], ids[2]}},
		"key":        {[]string{"--key", "k3"}, []int64{ids[2], ids[12], ids[22]}},
		"payload":    {[]string{"--payload", `{"to": {"city": 1}}`, "--max-id", strconv.FormatInt(ids[6], 10)}, []int64{ids[0], ids[3], ids[6]}},
		"ids":        {[]string{"--min-id", strconv.FormatInt(ids[4], 10), "--max-id", strconv.FormatInt(ids[5], 10)}, ids[4:6]},
		"since":      {[]string{"--since", "150m"}, ids[28:]},
		"until":      {[]string{"--until", "29h30m"}, ids[:1]},
		"newest":     {[]string{"--newest", "--limit", "2"}, []int64{ids[29], ids[28]}},
	} {
		var page eventPage
		decode(t, db, &page, append([]string{"events", "list"}, test.args...)...)
		if got := idsOf(page.Events); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}

	// Page by page, as the output says.
	var seen []int64
	for after, more := "", true; more; {
		var page eventPage
		decode(t, db, &page, "events", "list", "--topic", "orders.*", "--limit", "7", "--after", after)
		seen, after, more = append(seen, idsOf(page.Events)...), string(page.Next), page.Next != ""
	}
	if !slices.Equal(seen, ids) {
		t.Errorf("page by page: %v", seen)
	}
	text := succeed(t, db, "events", "list", "--limit", "2")
	if !strings.Contains(text, "orders.odd") || !strings.Contains(text, `"n": 1`) || !strings.Contains(text, fmt.Sprintf("go on with --after %d", ids[1])) {
		t.Errorf("text:\n%s", text)
	}
}

// A page is full, however many bounded looks that takes.
func TestEventsListLooksOn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Pool.Exec(t.Context(), `
		insert into outbox.events (topic, payload) select case when n % 20000 = 0 then 'rare' else 'usual' end, '0' from generate_series(1, 50000) n`); err != nil {
		t.Fatal(err)
	}
	var page eventPage
	decode(t, db, &page, "events", "list", "--topic", "rare", "--limit", "3")
	if len(page.Events) != 2 || page.Next != "" {
		t.Errorf("%d events, next %q", len(page.Events), page.Next)
	}
}

func TestEventsShow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	id := strconv.FormatInt(publishOrders(t, db, 1)[0], 10)
	if got := succeed(t, db, "events", "show", id); !strings.Contains(got, "There is no subscription yet") {
		t.Errorf("without subscriptions:\n%s", got)
	}
	subscribe(t, db, "mails", "orders.>")
	subscribe(t, db, "other", "other")
	var row admin.EventDetails
	decode(t, db, &row, "events", "show", id)
	if row.Event.Topic != "orders.odd" || row.Event.Headers["trace"] != "abc" || len(row.Fates) != 2 ||
		row.Fates[0].Fate != admin.FatePending || row.Fates[1].Fate != admin.FateUnmatched {
		t.Errorf("%+v", row)
	}
	var byUID admin.EventDetails
	decode(t, db, &byUID, "events", "show", strings.ToUpper(row.Event.UID))
	if diff := cmp.Diff(row, byUID); len(row.Event.UID) != uid.Len || diff != "" {
		t.Errorf("by the UID %q:\n%s", row.Event.UID, diff)
	}
	// The same id at another time is that of another event.
	other := uid.Make(1, row.Event.ID, row.Event.PublishedAt.UnixMicro()+1)
	refuse(t, db.URL, 3, "unknown event: "+other, "events", "show", other)
	text := succeed(t, db, "events", "show", id)
	for _, want := range []string{row.Event.UID, "orders.odd", "trace=abc", `"city": 1`, "pending", "unmatched"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	refuse(t, db.URL, 3, "unknown event: 99", "events", "show", "99")
	refuse(t, db.URL, 2, "<id>", "events", "show", "first")
}

func TestEventsTail(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	old := publishOrders(t, db, 3)
	// Its id is lower than that of what is published below, and it commits later.
	running, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	publish := func(db outbox.DB, n int) int64 {
		stored, err := outbox.Publish(t.Context(), db, outbox.Event{Topic: "orders.new", Payload: json.RawMessage(fmt.Sprintf(`{"n": %d}`, n))})
		if err != nil {
			t.Fatal(err)
		}
		return stored[0].ID
	}
	late := publish(running, 100)

	cmd := command(t, db.URL, "events", "tail", "--topic", "orders.>", "--path", "$.n > 2", "--from", strconv.FormatInt(old[0], 10), "--json")
	var out, complaints growing
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	follows := func(what string, want ...int64) {
		t.Helper()
		var got []int64
		eventually(t, what, func() bool {
			got = nil
			for line := range strings.Lines(out.String()) {
				var e outbox.Event
				if json.Unmarshal([]byte(line), &e) == nil {
					got = append(got, e.ID)
				}
			}
			return len(got) >= len(want)
		})
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	follows("what was there", old[2])
	publish(db.Pool, 1) // does not match
	fresh := publish(db.Pool, 5)
	follows("a new event", old[2], fresh)
	if err := running.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := publish(db.Pool, 7)
	follows("what a long transaction published", old[2], fresh, late, last)

	interrupt(t, cmd)
	if err := cmd.Wait(); err != nil || complaints.String() != "" {
		t.Errorf("after SIGINT: %v, %s", err, &complaints)
	}
}

// When its connection is cut, it says where it was.
func TestEventsTailIsCutOff(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ids := publishOrders(t, db, 1)
	cmd := command(t, db.URL, "events", "tail", "--from", "beginning")
	var out, complaints growing
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the event is printed", func() bool { return strings.Contains(out.String(), "orders.odd") })
	if _, err := db.Pool.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(complaints.String(), fmt.Sprintf("the last event was %d", ids[0])) {
		t.Errorf("exit code %d: %s", code, &complaints)
	}
}

// TestListsEndByBytes lists events and deliveries of 1 MB: a page is short, and says where to go on.
func TestListsEndByBytes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	subscribe(t, db, "mails", ">")
	if _, err := db.Pool.Exec(t.Context(), `
		insert into outbox.events (topic, payload) select 'a', to_json(repeat('x', 1000000)) from generate_series(1, 20)`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Pool.Exec(t.Context(), `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at)
		select 1, id, lane, topic, key, payload, headers, published_at, 'dead', now() from outbox.events`); err != nil {
		t.Fatal(err)
	}
	for list, args := range map[string][]string{"events": nil, "deliveries": {"-s", "mails"}} {
		after := ""
		for _, want := range []struct {
			n    int
			done bool
		}{{17, false}, {3, true}} {
			var page struct {
				Events, Deliveries []json.RawMessage
				Next               string
			}
			decode(t, db, &page, append([]string{list, "list", "--limit", "1000", "--after", after}, args...)...)
			if n := len(page.Events) + len(page.Deliveries); n != want.n || (page.Next == "") != want.done {
				t.Errorf("%s after %q: %d, next %q; want %+v", list, after, n, page.Next, want)
			}
			after = page.Next
		}
	}
}
