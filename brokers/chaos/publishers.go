package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/outbox"
)

const (
	topic        = "chaos.happened"
	publishers   = 6
	keysOfOne    = 20 // of a publisher: a key has one publisher, so that its order is known
	eventsAtOnce = 3
	rolledBackOf = 20 // one transaction of so many is rolled back
	withoutKeyOf = 10 // one event of so many has no key
)

// A payload is an event's.
type payload struct {
	Number int64  `json:"number"`
	Filler string `json:"filler,omitempty"`
}

// traffic publishes until ctx ends.
type traffic struct {
	pool   *pgxpool.Pool
	ledger *ledger
	seed   uint64
	rate   float64      // transactions a second, of all publishers
	large  int          // bytes of a poison
	poison atomic.Int32 // how many poisons are to be published
}

func (t *traffic) run(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for p := range publishers {
		group.Go(func() error {
			dice := rand.New(rand.NewPCG(t.seed, uint64(p)))
			start := time.Now()
			for n := 1; ; n++ {
				due := start.Add(time.Duration(float64(n) * publishers / t.rate * float64(time.Second)))
				if pause(groupCtx, time.Until(due)); groupCtx.Err() != nil {
					return nil
				}
				if err := t.publish(context.WithoutCancel(ctx), p, dice); err != nil {
					return fmt.Errorf("publish: %w", err)
				}
			}
		})
	}
	return group.Wait()
}

var errOnPurpose = errors.New("rolled back on purpose")

// publish publishes some events in one transaction. Nothing happens to the database, so what becomes of it is known.
func (t *traffic) publish(ctx context.Context, publisher int, dice *rand.Rand) error {
	n := 1 + dice.IntN(eventsAtOnce)
	first := t.ledger.plan(n)
	entries, events := make([]entry, n), make([]outbox.Event, n)
	for i := range entries {
		if dice.IntN(withoutKeyOf) > 0 {
			entries[i].key = fmt.Sprintf("key-%d-%d", publisher, dice.IntN(keysOfOne))
		}
		p := payload{Number: first + int64(i)}
		if t.poison.Load() > 0 && t.poison.Add(-1) >= 0 {
			entries[i].poison, p.Filler = true, strings.Repeat("x", t.large)
		}
		text, err := json.Marshal(p)
		if err != nil {
			return err
		}
		events[i] = outbox.Event{Topic: topic, Key: entries[i].key, Payload: text}
	}
	rollBack := dice.IntN(rolledBackOf) == 0
	err := pgx.BeginFunc(ctx, t.pool, func(tx pgx.Tx) error {
		published, err := outbox.Publish(ctx, tx, events...)
		if err != nil {
			return err
		}
		for i, e := range published {
			entries[i].id, entries[i].inDatabase, entries[i].committed = e.UID, e.ID, !rollBack
		}
		if rollBack {
			return errOnPurpose
		}
		return nil
	})
	if err != nil && !errors.Is(err, errOnPurpose) {
		return err
	}
	t.ledger.enter(first, entries)
	return nil
}

// pause is a sleep that ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
