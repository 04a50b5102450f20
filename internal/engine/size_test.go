package engine_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// Payloads of 1 MB, in SQL: one that compresses to a hundredth, and one that does not compress.
var megabytes = map[string]string{
	"compressed":   `to_json(repeat('x', 1000000))`,
	"uncompressed": `(select to_json(repeat(string_agg(md5(j::text), ''), 30)) from generate_series(1, 1000) j)`, // repeats beyond the compression's 4 kB
}

// mostBytes is what a window or a claim may have: what bounds it, and the event that exceeds that.
const mostBytes = 16<<20 + 1<<20 + 64<<10

func sizeOf(events []engine.Event) (n int) {
	for _, e := range events {
		n += len(e.Payload)
	}
	return n
}

// TestClaimsBounded retries hundreds of large events together, some of one key and some of none, and has suspects beside them: no
// claim returns more than the bytes of a window, and each key stays in order.
func TestClaimsBounded(t *testing.T) {
	t.Parallel()
	for name, payload := range megabytes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const retried, suspects = 96, 8
			ctx := t.Context()
			db := pgtest.New(t)
			m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, ">"))
			if _, err := db.Pool.Exec(ctx, fmt.Sprintf(`
				insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at, suspect)
				select s.id, i, 3, 'a', case when i <= $1::integer and i %% 2 = 0 then 'k' end, %s, '{}', now(), 'retrying', now(), i > $1
				from outbox.subscriptions s, generate_series(1, $1 + $2::integer) i`, payload), retried, suspects); err != nil {
				t.Fatal(err)
			}
			lines, err := m.Lines(ctx, []int16{3})
			if err != nil {
				t.Fatal(err)
			}
			var keyed, all []int64
			for claims := 0; len(lines) > 0; claims++ {
				if claims > retried+suspects {
					t.Fatal("claims do not come to an end")
				}
				due, waiting, err := m.ClaimDue(ctx, lines, 512, engine.Suspects{Together: 2, Limit: 64})
				if err != nil {
					t.Fatal(err)
				}
				var usual, suspect []engine.Event
				var ids []int64
				for _, d := range due {
					ids = append(ids, d.Event.ID)
					if d.Event.Key == "k" {
						keyed = append(keyed, d.Event.ID)
					}
					if d.Suspect {
						suspect = append(suspect, d.Event)
					} else {
						usual = append(usual, d.Event)
					}
				}
				if n := sizeOf(usual); n == 0 && len(waiting) > 0 && len(all) < retried || n > mostBytes {
					t.Errorf("claimed %d bytes in %d events, want some and at most %d", n, len(usual), mostBytes)
				}
				if n := sizeOf(suspect); n > 3<<20 {
					t.Errorf("claimed %d bytes in %d suspects", n, len(suspect))
				}
				all = append(all, ids...)
				if err := m.Settle(ctx, engine.Settlement{Delivered: ids}); err != nil {
					t.Fatal(err)
				}
				lines = waiting
			}
			if !slices.IsSorted(keyed) || len(keyed) != retried/2 {
				t.Errorf("of the key were claimed %d, want %d in order", keyed, retried/2)
			}
			if len(all) != retried+suspects {
				t.Errorf("%d deliveries were claimed, want %d", len(all), retried+suspects)
			}
		})
	}
}

// TestReadsBounded reads hundreds of large events, among small ones, new ones and late ones: no statement returns more than the bytes of
// a few windows over the connection, whatever was read before, and nothing is missed.
func TestReadsBounded(t *testing.T) {
	t.Parallel()
	for name, payload := range megabytes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const small, large = 3000, 100
			ctx := t.Context()
			db := pgtest.New(t)
			received := &received{}
			config, err := pgx.ParseConfig(db.URL)
			if err != nil {
				t.Fatal(err)
			}
			dial := config.DialFunc
			config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				return &counted{conn, received}, err
			}
			conn, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			s := enginetest.Subscribe(t, db, ">")
			worker, err := engine.Join(ctx, db.Conn(t), t.Name(), true, time.Hour, []int32{s.ID})
			if err != nil {
				t.Fatal(err)
			}
			m := engine.NewMember(conn, worker, s)
			if _, err := m.Claim(ctx, engine.Lanes); err != nil {
				t.Fatal(err)
			}
			insert := func(db outbox.DB, n int, payload string) {
				if _, err := db.Exec(ctx, fmt.Sprintf(`
					insert into outbox.events (topic, key, payload) select 'a', case when i %% 3 > 0 then 'k' || i %% 20 end, %s from generate_series(1, $1::integer) i`, payload), n); err != nil {
					t.Fatal(err)
				}
			}
			seen := map[int64]bool{}
			last := map[string]int64{}
			read := func(want int) {
				for found := 0; ; {
					received.n.Store(0)
					w, err := m.Read(ctx, 5120)
					if err != nil {
						t.Fatal(err)
					}
					if w.Empty() {
						if found != want {
							t.Errorf("read %d events, want %d", found, want)
						}
						return
					}
					// One statement that found large events, and the one that read them.
					if n, size := received.n.Load(), sizeOf(w.Events); size > mostBytes || n > 4*mostBytes {
						t.Errorf("a window of %d bytes came in %d, want at most %d in %d", size, n, mostBytes, 4*mostBytes)
					}
					for _, e := range w.Events {
						if seen[e.ID] {
							t.Errorf("event %d was read twice", e.ID)
						}
						if seen[e.ID] = true; e.Key != "" && e.ID < last[e.Key] {
							t.Errorf("event %d was read after %d of its key", e.ID, last[e.Key])
						}
						last[e.Key] = e.ID
					}
					found += len(w.Events)
					if err := m.Settle(ctx, engine.Settlement{Window: w, Handled: int64(len(w.Events))}); err != nil {
						t.Fatal(err)
					}
				}
			}
			insert(db.Pool, large, payload) // of a new member
			read(large)
			insert(db.Pool, small, "'1'") // it gets used to these
			read(small)
			insert(db.Pool, small, "'1'")
			insert(db.Pool, large, payload)
			read(small + large)
			clear(last) // the keys of one transaction have no order to keep with those of another at the same time
			tx, err := db.Pool.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(context.Background())
			insert(tx, large, payload)
			insert(db.Pool, small, "'1'")
			read(small)
			if err := tx.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			clear(last)
			read(large)
		})
	}
}

// received counts the bytes that connections receive.
type received struct{ n atomic.Int64 }

type counted struct {
	net.Conn
	by *received
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.by.n.Add(int64(n))
	return n, err
}
