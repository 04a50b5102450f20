package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

func TestPublish(t *testing.T) {
	t.Parallel()
	events := []outbox.Event{
		{Topic: "a.b", Key: "k", Payload: json.RawMessage(`{"n":  1.0, "a": [1e3 ]}`), Headers: map[string]string{"trace": "x"}},
		{Topic: "a.c", Payload: json.RawMessage(`null`)},
		{Topic: "ünïcode", Key: "ключ", Payload: json.RawMessage(`"\ud83d\ude00 \\u0000"`)},
	}
	// One event goes by a statement of its own.
	for _, size := range []int{1, len(events)} {
		t.Run(fmt.Sprintf("%d at once", size), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			var stored []outbox.Event
			for some := range slices.Chunk(events, size) {
				published, err := outbox.Publish(t.Context(), db.Pool, some...)
				if err != nil {
					t.Fatal(err)
				}
				stored = append(stored, published...)
			}
			rows, _ := db.Pool.Query(t.Context(), `
				select id, outbox.uid(id, published_at)::text, topic, coalesce(key, '') as key, payload, nullif(headers, '{}') as headers, published_at from outbox.events order by id`)
			found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e outbox.Event, err error) {
				err = row.Scan(&e.ID, &e.UID, &e.Topic, &e.Key, &e.Payload, &e.Headers, &e.PublishedAt)
				return e, err
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(stored, found); diff != "" {
				t.Errorf("returned is not what is stored:\n%s", diff)
			}
			if !slices.IsSortedFunc(stored, func(a, b outbox.Event) int { return int(a.ID - b.ID) }) {
				t.Error("ids do not rise in the order of the events")
			}
			if events[0].ID != 0 {
				t.Error("the caller's events were changed")
			}
		})
	}
}

// TestReusedID has an id handed out again, as after a failover that lost an event: the UID is another one.
func TestReusedID(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publish := func() outbox.Event {
		stored, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "a", Payload: json.RawMessage(`1`)})
		if err != nil {
			t.Fatal(err)
		}
		return stored[0]
	}
	lost := publish()
	if _, err := db.Pool.Exec(t.Context(), `delete from outbox.events`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Pool.Exec(t.Context(), `select setval('outbox.events_id_seq', $1, false)`, lost.ID); err != nil {
		t.Fatal(err)
	}
	if again := publish(); again.ID != lost.ID || again.UID == lost.UID {
		t.Errorf("published %d as %s, and %d as %s: want the same id and another UID", lost.ID, lost.UID, again.ID, again.UID)
	}
}

// TestPublishInSQL sends what a service in any language may: parameters of pgx. A domain is unknown to it, so some need a cast.
func TestPublishInSQL(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	type name string
	for what, payload := range map[string]any{
		"string": `{"n": 1}`, "bytes": []byte(`{"n": 1}`), "raw": json.RawMessage(`{"n": 1}`), "map": map[string]any{"n": 1},
	} {
		if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, key, payload, headers) values ($1, $2, $3::json, $4::jsonb)`,
			name("a"), (*string)(nil), payload, map[string]string{"trace": "x"}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := db.Pool.CopyFrom(t.Context(), pgx.Identifier{"outbox", "events"}, []string{"topic", "payload"},
			pgx.CopyFromRows([][]any{{"a", payload}})); err != nil {
			t.Errorf("copy of %s: %v", what, err)
		}
	}
	var same int
	if err := db.Pool.QueryRow(t.Context(), `select count(*) from outbox.events where payload::jsonb = '{"n": 1}'`).Scan(&same); err != nil || same != 8 {
		t.Errorf("%d of 8 payloads are what was published, %v", same, err)
	}
}

func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ok := outbox.Event{Topic: "a", Payload: json.RawMessage(`1`)}
	with := func(change func(*outbox.Event)) outbox.Event {
		e := ok
		change(&e)
		return e
	}
	tests := map[string]struct {
		event outbox.Event
		field string
	}{
		"no topic":        {with(func(e *outbox.Event) { e.Topic = "" }), "topic"},
		"empty token":     {with(func(e *outbox.Event) { e.Topic = "a..b" }), "topic"},
		"wildcard":        {with(func(e *outbox.Event) { e.Topic = "a.*" }), "topic"},
		"space":           {with(func(e *outbox.Event) { e.Topic = "a b" }), "topic"},
		"long topic":      {with(func(e *outbox.Event) { e.Topic = strings.Repeat("a", 256) }), "topic"},
		"long key":        {with(func(e *outbox.Event) { e.Key = strings.Repeat("a", 1025) }), "key"},
		"zero byte":       {with(func(e *outbox.Event) { e.Key = "a\x00b" }), "key"},
		"no UTF-8 key":    {with(func(e *outbox.Event) { e.Key = "\xff" }), "key"},
		"no payload":      {with(func(e *outbox.Event) { e.Payload = nil }), "payload"},
		"no JSON":         {with(func(e *outbox.Event) { e.Payload = json.RawMessage(`{`) }), "payload"},
		"two documents":   {with(func(e *outbox.Event) { e.Payload = json.RawMessage(`1 2`) }), "payload"},
		"no UTF-8":        {with(func(e *outbox.Event) { e.Payload = json.RawMessage("\"\xff\"") }), "payload"},
		"zero character":  {with(func(e *outbox.Event) { e.Payload = json.RawMessage(`"\u0000"`) }), "payload"},
		"half surrogate":  {with(func(e *outbox.Event) { e.Payload = json.RawMessage(`"\ud83d x"`) }), "payload"},
		"other half":      {with(func(e *outbox.Event) { e.Payload = json.RawMessage(`"\uDE00"`) }), "payload"},
		"large payload":   {with(func(e *outbox.Event) { e.Payload = json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`) }), "payload"},
		"large headers":   {with(func(e *outbox.Event) { e.Headers = map[string]string{"h": strings.Repeat("x", 64<<10)} }), "headers"},
		"no UTF-8 header": {with(func(e *outbox.Event) { e.Headers = map[string]string{"h": "\xff"} }), "headers"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx, err := db.Pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(t.Context()) //nolint:errcheck // nothing to keep
			_, err = outbox.Publish(t.Context(), tx, ok, test.event)
			var refused *outbox.EventError
			if !errors.As(err, &refused) || refused.Index != 1 || refused.Field != test.field {
				t.Fatalf("got %v, want an error about the %s of event 1", err, test.field)
			}
			if _, err := outbox.Publish(t.Context(), tx, ok); err != nil {
				t.Errorf("the transaction is not usable any more: %v", err)
			}
		})
	}
}

// What passes the checks must be storable: else the error of the database would name no event.
func FuzzPayload(f *testing.F) {
	for _, seed := range []string{`{}`, `"\u0000"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\\u0000"`, `"\\\u0000"`, `[1e10]`, `"\udead\ud83d"`, "\"\u2028\""} {
		f.Add(seed)
	}
	db := pgtest.New(f)
	f.Fuzz(func(t *testing.T, payload string) {
		if strings.ContainsAny(payload, "eE") && strings.ContainsAny(payload, "0123456789") {
			t.Skip("numbers beyond PostgreSQL's numeric are left to it")
		}
		_, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "fuzz", Payload: json.RawMessage(payload)})
		if err != nil && !errors.As(err, new(*outbox.EventError)) {
			t.Errorf("%q passed the checks: %v", payload, err)
		}
	})
}

func TestPublishFrom(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	errSource := errors.New("source broke")
	source := func(n int, end error) func(func(outbox.Event, error) bool) {
		return func(yield func(outbox.Event, error) bool) {
			for i := range n {
				if !yield(outbox.NewEvent("copied", fmt.Sprint(i%2), i)) {
					return
				}
			}
			if end != nil {
				yield(outbox.Event{}, end)
			}
		}
	}
	if n, err := outbox.PublishFrom(t.Context(), db.Pool, source(1000, nil)); err != nil || n != 1000 {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := outbox.PublishFrom(t.Context(), db.Pool, source(10, errSource)); !errors.Is(err, errSource) {
		t.Errorf("got %v, want the source's error", err)
	}
	_, err := outbox.PublishFrom(t.Context(), db.Pool, func(yield func(outbox.Event, error) bool) {
		_ = yield(outbox.NewEvent("copied", "", 1)) && yield(outbox.NewEvent("no..topic", "", 2))
	})
	var refused *outbox.EventError
	if !errors.As(err, &refused) || refused.Index != 1 {
		t.Errorf("got %v, want an error about event 1", err)
	}
	var n int
	if err := db.Pool.QueryRow(t.Context(), `select count(*) from outbox.events`).Scan(&n); err != nil || n != 1000 {
		t.Errorf("%d events are stored, %v; want 1000", n, err)
	}
}

// TestSourceBreaks has the source of PublishFrom panic, and end its goroutine: that reaches the caller, on its goroutine, the copy is over
// by then, and nothing of it is stored.
func TestSourceBreaks(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(){"panic": func() { panic("out of order") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			var value any
			caller := make(chan struct{})
			go func() {
				defer close(caller)
				defer func() { value = recover() }()
				n, err := outbox.PublishFrom(context.Background(), db.Pool, func(yield func(outbox.Event, error) bool) {
					for n := range 1000 {
						if n == 500 {
							broken()
						}
						if !yield(outbox.Event{Topic: "a", Payload: json.RawMessage("1")}, nil) {
							return
						}
					}
				})
				t.Errorf("it returned %d, %v", n, err)
			}()
			select {
			case <-caller:
			case <-time.After(time.Minute):
				t.Fatal("the caller hangs")
			}
			if want := name == "panic"; (value == "out of order") != want {
				t.Errorf("the caller got %v", value)
			}
			var n int
			if err := db.Pool.QueryRow(t.Context(), `select count(*) from outbox.events`).Scan(&n); err != nil || n != 0 {
				t.Errorf("%d events are stored, %v", n, err)
			}
			if busy := db.Pool.Stat().AcquiredConns(); busy != 0 {
				t.Errorf("%d connections are still in use", busy)
			}
		})
	}
}
