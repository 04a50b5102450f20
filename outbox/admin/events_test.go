package admin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// pages reads all pages and returns the ids of what they have.
func pages(t *testing.T, db *pgtest.DB, f admin.EventFilter, newest bool, o admin.ListOptions) (ids []int64) {
	t.Helper()
	list := admin.ListEvents
	if newest {
		list = admin.ListNewestEvents
	}
	for n := 0; ; n++ {
		page, err := list(t.Context(), db.Pool, f, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Items {
			ids = append(ids, e.ID)
		}
		if page.Next == "" {
			return ids
		}
		if o.After == page.Next {
			t.Fatalf("page %d of %+v ends where it began, at %s", n, f, o.After)
		}
		o.After = page.Next
	}
}

// TestEvents compares pages of all kinds of filters to what one statement finds.
func TestEvents(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const n = 3000
	enginetest.Fill(t, db, n, begin)
	at := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
	for _, c := range []struct {
		filter admin.EventFilter
		where  string
	}{
		{admin.EventFilter{}, "true"},
		{admin.EventFilter{Topic: "a.3"}, "topic = 'a.3'"},
		{admin.EventFilter{Topic: "a.*"}, "true"},
		{admin.EventFilter{Topic: "b.>"}, "false"},
		{admin.EventFilter{Key: "k3"}, "key = 'k3'"},
		{admin.EventFilter{Key: "unknown"}, "false"},
		{admin.EventFilter{Key: "k3", Topic: "a.1", Payload: json.RawMessage(`{"even": false}`)}, "key = 'k3' and topic = 'a.1'"},
		{admin.EventFilter{Payload: json.RawMessage(`{"n": 1234}`)}, "id = 1234"},
		{admin.EventFilter{MinID: 100, MaxID: 200}, "id between 100 and 200"},
		{admin.EventFilter{Since: at(500), Until: at(700)}, "id >= 500 and id < 700"},
		{admin.EventFilter{Since: at(2990)}, "id >= 2990"},
		{admin.EventFilter{Until: at(10)}, "id < 10"},
		{admin.EventFilter{Since: at(500), Until: at(700), Topic: "a.7", MinID: 600}, "id between 600 and 699 and topic = 'a.7'"},
	} {
		rows, _ := db.Pool.Query(ctx, "select id from outbox.events where "+c.where+" order by id")
		want, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int{0, 7, 1000} {
			if limit == 7 && len(want) > 500 {
				continue // in many pages, to no end
			}
			if got := pages(t, db, c.filter, false, admin.ListOptions{Limit: limit}); !slices.Equal(got, want) {
				t.Errorf("%+v in pages of %d: %d events, want %d", c.filter, limit, len(got), len(want))
			}
			got := pages(t, db, c.filter, true, admin.ListOptions{Limit: limit})
			slices.Reverse(got)
			if !slices.Equal(got, want) {
				t.Errorf("%+v newest first in pages of %d: %d events, want %d", c.filter, limit, len(got), len(want))
			}
		}
	}
	for _, f := range []admin.EventFilter{{Topic: "a..b"}, {Topic: "a\x00"}, {Payload: json.RawMessage("{")}, {Payload: json.RawMessage("\"\xff\"")}, {Key: "\x00"}} {
		if _, err := admin.ListEvents(ctx, db.Pool, f, admin.ListOptions{}); !errors.Is(err, admin.ErrInvalidFilter) {
			t.Errorf("%+v: got %v, want ErrInvalidFilter", f, err)
		}
	}
	for _, limit := range []int{-1, 1001} {
		if _, err := admin.ListEvents(ctx, db.Pool, admin.EventFilter{}, admin.ListOptions{Limit: limit}); !errors.Is(err, admin.ErrInvalidFilter) {
			t.Errorf("pages of %d: got %v, want ErrInvalidFilter", limit, err)
		}
	}
}

// TestRareEvents looks for one event among many: the page is short, and the next ones find it.
func TestRareEvents(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	enginetest.Fill(t, db, 50_000, time.Now().Add(-100_000*time.Second))
	f := admin.EventFilter{Payload: json.RawMessage(`{"n": 45000}`)}
	page, err := admin.ListEvents(t.Context(), db.Pool, f, admin.ListOptions{})
	if err != nil || len(page.Items) != 0 || page.Next != "20000" {
		t.Errorf("the first page is %+v, %v; want none up to 20,000", page, err)
	}
	for _, newest := range []bool{false, true} {
		if got := pages(t, db, f, newest, admin.ListOptions{}); !slices.Equal(got, []int64{45_000}) {
			t.Errorf("newest first: %v: found %v", newest, got)
		}
	}
}

// TestFates brings events to all ends there are.
func TestFates(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	fates := func(id int64) string {
		t.Helper()
		row, err := admin.GetEvent(ctx, db.Pool, id)
		if err != nil {
			t.Fatal(err)
		}
		if row.Event.ID != id {
			t.Errorf("asked for event %d, got %+v", id, row.Event)
		}
		var texts []string
		for _, f := range row.Fates {
			texts = append(texts, f.Subscription+" "+string(f.Fate))
			has, want := f.Delivery != nil, f.Fate != admin.FatePending && f.Fate != admin.FateDelivered && f.Fate != admin.FateUnmatched && f.Fate != admin.FateEarlier
			if has != want {
				t.Errorf("event %d: %s: has a delivery: %v", id, f.Fate, has)
			}
		}
		return strings.Join(texts, ", ")
	}
	if _, err := admin.GetEvent(ctx, db.Pool, 1); !errors.Is(err, admin.ErrUnknownEvent) {
		t.Errorf("got %v, want ErrUnknownEvent", err)
	}
	enginetest.Publish(t, db.Pool, "k") // 1
	for name, topic := range map[string]string{"new": "a", "other": "b"} {
		if _, err := engine.Subscribe(ctx, db.Pool, name, []string{topic}, outbox.FromNow); err != nil {
			t.Fatal(err)
		}
	}
	s, err := engine.Subscribe(ctx, db.Pool, "s", []string{"a"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(id int64, want string) {
		t.Helper()
		if got := fates(id); got != want {
			t.Errorf("event %d: %s; want %s", id, got, want)
		}
	}
	expect(1, "new earlier, other unmatched, s pending")
	slow := db.Conn(t)
	tx, err := slow.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	enginetest.Publish(t, tx, "slow") // 2
	for n := range 6 {                // 3 to 8
		enginetest.Publish(t, db.Pool, []string{"k", "k", "k2", "k3", "k4", "k5"}[n])
	}
	m, _ := enginetest.Member(t, db, s)
	w, err := m.Read(ctx, 1000)
	if err != nil || len(w.Events) != 7 {
		t.Fatal(w, err)
	}
	become := func(id int64, state outbox.State) engine.Unfinished {
		for _, e := range w.Events {
			if e.ID == id {
				return engine.Unfinished{Event: e, State: state, Attempt: 1}
			}
		}
		panic(fmt.Sprint("no event ", id))
	}
	err = m.Settle(ctx, engine.Settlement{Window: w, Unfinished: []engine.Unfinished{
		become(3, outbox.Retrying), become(4, outbox.Retrying), become(5, outbox.Running), become(6, outbox.Dead), become(7, outbox.Skipped),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	for id, fate := range map[int64]string{2: "pending", 3: "retrying", 4: "blocked", 5: "running", 6: "dead", 7: "skipped", 8: "delivered"} {
		expect(id, "new pending, other unmatched, s "+fate)
	}
	enginetest.Settle(t, m, 1)
	expect(2, "new pending, other unmatched, s delivered")
	// What the log does not have any more.
	if _, err := db.Pool.Exec(ctx, `delete from outbox.events where id in (6, 8)`); err != nil {
		t.Fatal(err)
	}
	expect(6, "s dead")
	if row, err := admin.GetEvent(ctx, db.Pool, 6); err != nil || !row.Deleted || row.Event.Key != "k3" {
		t.Errorf("got %+v, %v", row, err)
	}
	if _, err := admin.GetEvent(ctx, db.Pool, 8); !errors.Is(err, admin.ErrUnknownEvent) {
		t.Errorf("got %v, want ErrUnknownEvent", err)
	}
}

// TestPayloadsThatAreNoJSONB are delivered as they are, and match no filter, instead of stopping who looks for others.
func TestPayloadsThatAreNoJSONB(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	odd := []string{`"\u0000"`, `{"n": 1e200000}`, `"\ud83d"`, `{"n":  1}`}
	for _, payload := range odd {
		if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, payload) values ('a', $1)`, payload); err != nil {
			t.Fatal(err)
		}
	}
	if ids := pages(t, db, admin.EventFilter{Payload: json.RawMessage(`{"n": 1}`)}, false, admin.ListOptions{}); len(ids) != 1 {
		t.Errorf("found events %v, want one", ids)
	}
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, "a"))
	w, err := m.Read(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range w.Events {
		if string(e.Payload) != odd[i] {
			t.Errorf("the payload %s was read as %s", odd[i], e.Payload)
		}
	}
	if len(w.Events) != len(odd) {
		t.Errorf("read %d events of %d", len(w.Events), len(odd))
	}
}
