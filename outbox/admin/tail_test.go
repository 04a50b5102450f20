package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

func newTail(t *testing.T, db *pgtest.DB, cfg admin.TailConfig) *admin.Tail {
	t.Helper()
	tail, err := admin.NewTail(t.Context(), db.Conn(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tail
}

// tailed returns the ids of what a tail finds until there is no more.
func tailed(t *testing.T, tail *admin.Tail) []int64 {
	t.Helper()
	var ids []int64
	for more := true; more; {
		var events []outbox.Event
		var err error
		if events, more, err = tail.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

func publishText(t *testing.T, db outbox.DB, topic, key, payload string) int64 {
	t.Helper()
	stored, err := outbox.Publish(t.Context(), db, outbox.Event{Topic: topic, Key: key, Payload: json.RawMessage(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return stored[0].ID
}

// What a running transaction has published comes when it commits, once, whatever has been passed meanwhile.
func TestTailPassesRunningTransactions(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishText(t, db.Pool, "old", "", "1")
	soon, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	zeroth := publishText(t, soon, "early", "", "1")
	before, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := publishText(t, before, "early", "", "1")

	tail := newTail(t, db, admin.TailConfig{Start: outbox.FromNow})
	if got := tailed(t, tail); got != nil {
		t.Errorf("at first: %v", got)
	}
	if err := soon.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := tailed(t, tail); !slices.Equal(got, []int64{zeroth}) {
		t.Errorf("after a commit, and nothing else: %v, want %d", got, zeroth)
	}
	during, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := publishText(t, during, "late", "", "1")
	third := publishText(t, db.Pool, "new", "", "1")
	if got := tailed(t, tail); !slices.Equal(got, []int64{third}) {
		t.Errorf("beside running transactions: %v, want %d", got, third)
	}
	for tx, want := range map[pgx.Tx]int64{before: first, during: second} {
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := tailed(t, tail); !slices.Equal(got, []int64{want}) {
			t.Errorf("after a commit: %v, want %d", got, want)
		}
	}
	if got := tailed(t, tail); got != nil {
		t.Errorf("in the end: %v", got)
	}
}

func TestTailFilters(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var ids []int64
	for i := range 4 {
		ids = append(ids, publishText(t, db.Pool, fmt.Sprintf("orders.%d", i), fmt.Sprint("k", i%2), fmt.Sprintf(`{"n": %d, "at": {"city": "c%d"}, "big": %t}`, i, i%2, i > 2)))
	}
	for name, test := range map[string]struct {
		cfg  admin.TailConfig
		want []int64
	}{
		"everything":   {admin.TailConfig{}, ids},
		"from an id":   {admin.TailConfig{Start: outbox.FromID(ids[2])}, ids[2:]},
		"topic":        {admin.TailConfig{Topic: "orders.1"}, ids[1:2]},
		"key":          {admin.TailConfig{Key: "k1"}, []int64{ids[1], ids[3]}},
		"payload":      {admin.TailConfig{Payload: json.RawMessage(`{"at": {"city": "c0"}}`)}, []int64{ids[0], ids[2]}},
		"predicate":    {admin.TailConfig{Path: "$.n >= 2"}, ids[2:]},
		"filter":       {admin.TailConfig{Path: "$ ? (@.n == 1)"}, ids[1:2]},
		"truth":        {admin.TailConfig{Path: "$.big"}, ids[3:]},
		"missing":      {admin.TailConfig{Path: "$.nothing.there"}, nil},
		"no such type": {admin.TailConfig{Path: "$.n.datetime()"}, nil},
		"together":     {admin.TailConfig{Topic: "orders.*", Key: "k1", Path: "$.n > 1"}, ids[3:]},
	} {
		if got := tailed(t, newTail(t, db, test.cfg)); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	for name, test := range map[string]struct {
		cfg  admin.TailConfig
		want error
	}{
		"topic":    {admin.TailConfig{Topic: "a..b"}, admin.ErrInvalidFilter},
		"payload":  {admin.TailConfig{Payload: json.RawMessage(`{`)}, admin.ErrInvalidFilter},
		"no UTF-8": {admin.TailConfig{Payload: json.RawMessage("\"\xff\"")}, admin.ErrInvalidFilter},
		"path":     {admin.TailConfig{Path: "$.n >"}, admin.ErrInvalidFilter},
		"id":       {admin.TailConfig{Start: outbox.FromID(99)}, outbox.ErrInvalidPosition},
	} {
		if _, err := admin.NewTail(t.Context(), db.Conn(t), test.cfg); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// Each of many events of concurrent, mixed transactions comes once.
func TestTailMissesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tail := newTail(t, db, admin.TailConfig{Start: outbox.FromNow})

	const publishers, rounds = 8, 60
	var (
		running   sync.WaitGroup
		mu        sync.Mutex
		committed = map[int64]bool{}
	)
	for p := range publishers {
		running.Go(func() {
			for i := range rounds {
				var ids []int64
				err := pgx.BeginFunc(context.Background(), db.Pool, func(tx pgx.Tx) error {
					for range 1 + (p+i)%4 {
						stored, err := outbox.Publish(context.Background(), tx, outbox.Event{Topic: "t", Payload: json.RawMessage("1")})
						if err != nil {
							return err
						}
						ids = append(ids, stored[0].ID)
					}
					if i%7 == p%7 {
						return errRolledBack
					}
					return nil
				})
				if err != nil && !errors.Is(err, errRolledBack) {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					for _, id := range ids {
						committed[id] = true
					}
					mu.Unlock()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); running.Wait() }()
	seen := map[int64]int{}
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true // and look once more
		case <-time.After(time.Millisecond):
		}
		for _, id := range tailed(t, tail) {
			seen[id]++
		}
	}
	for id := range committed {
		if seen[id] != 1 {
			t.Errorf("event %d came %d times", id, seen[id])
		}
	}
	if len(seen) != len(committed) {
		t.Errorf("%d events came, %d were committed", len(seen), len(committed))
	}
}

var errRolledBack = errors.New("rolled back")
