package engine_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// Payloads of 1 MB, in SQL, for a number i: one that compresses to a hundredth, and one that does not compress.
var megabytes = map[string]string{
	"compressed":   `to_json(repeat('x', 1000000))`,
	"uncompressed": `(select to_json(string_agg(md5(i || '.' || j), '')) from generate_series(1, 31250) j)`,
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
