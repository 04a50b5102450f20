package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// payload2 is version 2 of payload: its field has another name.
type payload2 struct {
	Number int             `json:"number"`
	Note   json.RawMessage `json:"note"` // of version 1, which no handler reads there
}

// renamed is the step from payload to payload2.
func renamed(raw json.RawMessage) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	fields["number"] = fields["n"]
	delete(fields, "n")
	return json.Marshal(fields)
}

// handledNumbers has what workers of both versions were called for, by key and in order.
type handledNumbers struct {
	mu    sync.Mutex
	byKey map[string][]int
	n     atomic.Int64
}

func (h *handledNumbers) add(key string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byKey[key] = append(h.byKey[key], n)
	h.n.Add(1)
}

// registrations are the forms that decode payloads in two ways, with a handler for each version.
var registrations = map[string]struct {
	old, renewed func(*worker.Worker, worker.Subscription, *handledNumbers) error
}{
	"each": {
		func(w *worker.Worker, s worker.Subscription, h *handledNumbers) error {
			return worker.Handle(w, s, func(_ context.Context, e *worker.Event[payload]) error { h.add(e.Key, e.Payload.N); return nil })
		},
		func(w *worker.Worker, s worker.Subscription, h *handledNumbers) error {
			return worker.Handle(w, s, func(_ context.Context, e *worker.Event[payload2]) error { h.add(e.Key, e.Payload.Number); return nil })
		},
	},
	"batch": {
		func(w *worker.Worker, s worker.Subscription, h *handledNumbers) error {
			return worker.HandleBatch(w, s, func(_ context.Context, events []*worker.Event[payload]) error {
				for _, e := range events {
					h.add(e.Key, e.Payload.N)
				}
				return nil
			})
		},
		func(w *worker.Worker, s worker.Subscription, h *handledNumbers) error {
			return worker.HandleBatch(w, s, func(_ context.Context, events []*worker.Event[payload2]) error {
				for _, e := range events {
					h.add(e.Key, e.Payload.Number)
				}
				return nil
			})
		},
	},
}

func deliveries(t *testing.T, db *pgtest.DB) (n int) {
	t.Helper()
	if err := db.Pool.QueryRow(t.Context(), `select count(*) from outbox.deliveries`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRollingDeployOfPayloads deploys version 2 of a payload to publishers and to three workers, one after the other, in both orders. Events
// of either version are handled once and in order, although two attempts are all that they have, and the next is an hour away.
func TestRollingDeployOfPayloads(t *testing.T) {
	t.Parallel()
	for form, register := range registrations {
		for _, publishersFirst := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, publishers first: %v", form, publishersFirst), func(t *testing.T) {
				t.Parallel()
				db := pgtest.New(t)
				h := &handledNumbers{byKey: map[string][]int{}}
				s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 2, InitialInterval: time.Hour}}
				run := func(register func(*worker.Worker, worker.Subscription, *handledNumbers) error, s worker.Subscription) (stop func()) {
					w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), PollInterval: 100 * time.Millisecond})
					if err != nil {
						t.Fatal(err)
					}
					if err := register(w, s, h); err != nil {
						t.Fatal(err)
					}
					return runUntilStopped(t, w)
				}
				published := 0
				send := func(version2 bool) {
					var events []outbox.Event
					for range 40 {
						e := outbox.Event{Topic: "a", Payload: json.RawMessage(fmt.Sprintf(`{"n": %d, "note": "kept"}`, published))}
						if version2 {
							e.Payload = json.RawMessage(fmt.Sprintf(`{"number": %d}`, published))
							e.Headers = map[string]string{outbox.SchemaVersionHeader: "2"}
						}
						if published%5 != 0 {
							e.Key = fmt.Sprintf("k%d", published%5)
						}
						events = append(events, e)
						published++
					}
					if _, err := outbox.Publish(t.Context(), db.Pool, events...); err != nil {
						t.Fatal(err)
					}
				}
				var stops []func()
				for range 3 {
					stops = append(stops, run(register.old, s))
				}
				send(false)
				eventually(t, 30*time.Second, "the first ones are handled", func() bool { return h.n.Load() >= 40 })
				if publishersFirst {
					send(true)
					eventually(t, 30*time.Second, "old workers have met new events", func() bool { return deliveries(t, db) > 0 && settledLag(t, db.Pool) })
				}
				newer := s
				newer.Upcasts = map[int]worker.Upcast{1: renamed}
				for i, stop := range stops {
					if i%2 == 0 { // with an overlap, and without one
						run(register.renewed, newer)
						stop()
					} else {
						stop()
						run(register.renewed, newer)
					}
					send(publishersFirst)
				}
				send(true)
				eventually(t, 30*time.Second, "all is handled", func() bool { return h.n.Load() >= int64(published) && deliveries(t, db) == 0 && settledAll(t, db.Pool) })
				var all []int
				for key, numbers := range h.byKey {
					all = append(all, numbers...)
					if key != "" && !slices.IsSorted(numbers) {
						t.Errorf("key %s: %v", key, numbers)
					}
				}
				slices.Sort(all)
				for i, n := range all {
					if i != n {
						t.Fatalf("handled %v", all)
					}
				}
			})
		}
	}
}

// TestUpcast has payloads of several versions, and steps that fail in every way.
func TestUpcast(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	steps := map[int]worker.Upcast{
		1: func(raw json.RawMessage) (json.RawMessage, error) {
			switch string(raw) {
			case `"error"`:
				return nil, errors.New("out of order")
			case `"panic"`:
				panic("out of order")
			case `"exit"`:
				runtime.Goexit()
			case `"garbage"`:
				return json.RawMessage(`{`), nil
			case `"skip"`:
				return nil, worker.Skip("not of interest")
			}
			next := json.RawMessage(fmt.Sprintf(`[%s]`, raw))
			copy(raw, bytes.Repeat([]byte("x"), len(raw))) // is its own
			return next, nil
		},
		2: func(raw json.RawMessage) (json.RawMessage, error) {
			return json.RawMessage(fmt.Sprintf(`{"v3": %s}`, raw)), nil
		},
	}
	var mu sync.Mutex
	got := map[string]string{}
	handle := func(_ context.Context, events []*worker.Event[json.RawMessage]) error {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range events {
			got[string(e.Event.Payload)+e.Headers[outbox.SchemaVersionHeader]] = string(e.Payload)
		}
		return nil
	}
	for _, e := range []struct{ payload, version string }{
		{`"error"`, ""},
		{`"panic"`, ""},
		{`"exit"`, "1"},
		{`"garbage"`, ""},
		{`"skip"`, ""},
		{`"one"`, ""},
		{`"one"`, "1"},
		{`"two"`, "2"},
		{`"three"`, "3"},
		{`"four"`, "4"},
		{`"none"`, "v1"},
		{`"none"`, "0"},
	} {
		event := outbox.Event{Topic: "a", Payload: json.RawMessage(e.payload)}
		if e.version != "" {
			event.Headers = map[string]string{outbox.SchemaVersionHeader: e.version}
		}
		if _, err := outbox.Publish(t.Context(), db.Pool, event); err != nil {
			t.Fatal(err)
		}
	}
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{Name: "s", Topics: everything, Upcasts: steps}
	if err := worker.HandleBatch(w, s, handle); err != nil {
		t.Fatal(err)
	}
	dead := worker.Subscription{Name: "dead", Topics: everything, Upcasts: steps, OnDecodeError: worker.DeadLetterDecodeErrors}
	if err := worker.HandleBatch(w, dead, handle); err != nil {
		t.Fatal(err)
	}
	unversioned := worker.Subscription{Name: "unversioned", Topics: everything} // without versions
	if err := worker.HandleTx(w, unversioned, func(context.Context, pgx.Tx, *worker.Event[json.RawMessage]) error { return nil }); err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	reasons := func(subscription string) map[string]string {
		list, err := db.Pool.Query(t.Context(), `
			select d.payload #>> '{}' || coalesce(d.headers ->> 'schema-version', ''), d.state || ' ' || d.attempt || ' ' || d.for_others || ': ' || (d.errors -> -1 ->> 'error')
			from outbox.deliveries d join outbox.subscriptions s on s.id = d.subscription_id
			where s.name = $1`, subscription)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		var key, reason string
		if _, err := pgx.ForEachRow(list, []any{&key, &reason}, func() error { found[key] = reason; return nil }); err != nil {
			t.Fatal(err)
		}
		return found
	}
	for name, state := range map[string]string{"s": "retrying 0 true", "dead": "dead 1 false"} {
		want := map[string]string{
			"error": "upcast from schema-version 1: out of order", "panic": "upcast from schema-version 1: panic: out of order",
			"exit1": "upcast from schema-version 1: it called runtime.Goexit", "garbage": "upcast from schema-version 1: what it returned is not JSON",
			"four4": "schema-version is 4, and this worker knows payloads up to version 3", "nonev1": `header schema-version is "v1", must be a number from 1`,
			"none0": `header schema-version is "0", must be a number from 1`, "skip": "not of interest",
		}
		eventually(t, 30*time.Second, "all is over", func() bool { return len(reasons(name)) == len(want) && settledLag(t, db.Pool) })
		for key, reason := range reasons(name) {
			head := state
			if key == "skip" {
				head = "skipped 1 false"
			}
			if !strings.HasPrefix(reason, head+": ") || !strings.Contains(reason, want[key]) || want[key] == "" {
				t.Errorf("%s: %s is %q", name, key, reason)
			}
		}
	}
	if left := reasons("unversioned"); len(left) > 0 {
		t.Errorf("without versions: %v", left)
	}
	mu.Lock()
	defer mu.Unlock()
	for published, want := range map[string]string{`"one"`: `{"v3": ["one"]}`, `"one"1`: `{"v3": ["one"]}`, `"two"2`: `{"v3": "two"}`, `"three"3`: `"three"`} {
		if got[published] != want {
			t.Errorf("%s came as %s, want %s", published, got[published], want)
		}
	}
}

// TestUpcastsAreChecked refuses steps that lead nowhere.
func TestUpcastsAreChecked(t *testing.T) {
	t.Parallel()
	step := worker.Upcast(renamed)
	for want, s := range map[string]worker.Subscription{
		"Upcasts[1] is nil":                                {Upcasts: map[int]worker.Upcast{1: nil}},
		"Upcasts has a step from version 0":                {Upcasts: map[int]worker.Upcast{0: step, 1: step}},
		"from version 1 to 2, and none from there to 4":    {Upcasts: map[int]worker.Upcast{1: step, 3: step}},
		"from version 2 to 3, and none from there to 4":    {SchemaVersion: 4, Upcasts: map[int]worker.Upcast{1: step, 2: step}},
		"a step from version 2, and SchemaVersion is 2":    {SchemaVersion: 2, Upcasts: map[int]worker.Upcast{1: step, 2: step}},
		"SchemaVersion is negative":                        {SchemaVersion: -1},
		"OnDecodeError is neither RetryDecodeErrors nor D": {OnDecodeError: 7},
		"": {SchemaVersion: 3, Upcasts: map[int]worker.Upcast{2: step}}, // of version 1 there is none any more
	} {
		w, err := worker.New(pgtest.New(t).Pool, worker.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s.Name = "s"
		err = worker.Handle(w, s, func(context.Context, *worker.Event[payload]) error { return nil })
		if want == "" && err != nil || want != "" && (!errors.Is(err, worker.ErrInvalidConfig) || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
