package main

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// A scale shortens what takes long: it is the part of all numbers and times that is measured.
type scale float64

func (s scale) count(n, least int64) int64 { return max(least, int64(float64(n)*float64(s))) }

func (s scale) time(d, least time.Duration) time.Duration {
	return max(least, time.Duration(float64(d)*float64(s)))
}

const (
	// specialTopic is that of the special keys, unheardTopic one that no subscription has.
	specialTopic, unheardTopic = "bench.special", "bench.unheard"
	specialKey                 = "special"
)

// specialEvents are those of a number of keys, in turns, from one number up to another, without it.
func specialEvents(topic string, keys, from, to int64) iter.Seq2[outbox.Event, error] {
	return func(yield func(outbox.Event, error) bool) {
		for n := from; n < to; n++ {
			if !yield(outbox.Event{Topic: topic, Key: fmt.Sprintf("%s-%d", specialKey, n%keys), Payload: fmt.Appendf(nil, `{"n":%d}`, n)}, nil) {
				return
			}
		}
	}
}

// specialBatch is how many events of a special key a transaction has. It is small: all that commits after a read has passed it is late,
// and has a row for each event, which is measured apart.
const specialBatch = 100

// publishSpecial writes n events of one key.
func publishSpecial(ctx context.Context, d *stage.Database, topic string, n int64) error {
	for from := int64(0); from < n; from += specialBatch {
		if _, err := outbox.PublishFrom(ctx, d.Pool, specialEvents(topic, 1, from, min(from+specialBatch, n))); err != nil {
			return err
		}
	}
	return nil
}

// Lines follow the events of keys, which have their numbers in turns.
type lines struct {
	mu         sync.Mutex
	next       []int64 // by key, how many have been handled
	all        int64   // of all keys
	repeated   int64   // those that were handled before
	disordered int64   // those that came before one that is earlier
}

func newLines(keys int64) *lines { return &lines{next: make([]int64, keys)} }

// done notes that an event was handled.
func (l *lines) done(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := int64(len(l.next))
	next, at := &l.next[n%keys], n/keys
	switch {
	case at == *next:
		*next++
		l.all++
	case at < *next:
		l.repeated++
	default:
		l.disordered++
	}
}

func (l *lines) handled() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// A reaction is what a handler of any form does with an event.
type reaction func(ctx context.Context, e *effectEvent) error

// register registers a handler by the name of its form.
func register(w *worker.Worker, form string, s worker.Subscription, do reaction) error {
	all := func(ctx context.Context, events []*effectEvent) error {
		for _, e := range events {
			if err := do(ctx, e); err != nil {
				return err
			}
		}
		return nil
	}
	switch form {
	case single:
		return worker.Handle(w, s, do)
	case oneByOne:
		return worker.HandleTx(w, s, func(ctx context.Context, _ pgx.Tx, e *effectEvent) error { return do(ctx, e) })
	case together:
		return worker.HandleBatch(w, s, all)
	case bySlice:
		return worker.HandleBatchTx(w, s, func(ctx context.Context, _ pgx.Tx, events []*effectEvent) error { return all(ctx, events) })
	}
	return fmt.Errorf("there is no form %s", form)
}

// Names of the forms beside the transactional ones.
const (
	single   = "Handle"
	together = "HandleBatch"
)

// otherKeys is how many keys there are beside the special one, and otherRate how many of their events a second.
const (
	otherKeys = 9999
	otherRate = 500
)

// publishOther writes the n-th event of the other keys.
func publishOther(s systems.System) stage.PublishFunc {
	return func(ctx context.Context, tx pgx.Tx, n int64) error {
		e := stage.Event(n)
		e.Key = fmt.Sprintf("key-%d", n%otherKeys)
		return s.Publish(ctx, tx, []systems.Event{e})
	}
}

// running starts a worker, until stop is called, which returns how it ended.
func running(ctx context.Context, w *worker.Worker) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

// sleep is what a handler does that takes so long.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leftovers checks that no event waits, and returns how many are dead letters.
func leftovers(ctx context.Context, d *stage.Database) (dead int64, err error) {
	var open int64
	count := func() error {
		return d.Pool.QueryRow(ctx, `
			select count(*) filter (where state = 'dead'), count(*) filter (where state <> 'dead') + (select count(*) from outbox.held_keys)
			from outbox.deliveries`).Scan(&dead, &open)
	}
	wait := stage.Await(ctx, 30*time.Second, "nothing waits any more", func() bool { // what is handled is settled soon
		err = count()
		return err != nil || open == 0
	})
	if err == nil {
		err = wait
	}
	return dead, err
}

// A watch looks again and again at how many rows keys have.
type watch struct {
	rows, holds int64 // at most: of a key, or of all
	stop        func() error
}

// watchRows looks at the deliveries of a topic, those of the key that has most, or of all keys.
func watchRows(ctx context.Context, d *stage.Database, topic string, each bool) *watch {
	return watchBy(ctx, d, `select coalesce(max(n), 0), (select count(*) from outbox.held_keys)
		from (select count(*) as n from outbox.deliveries where topic = $1 group by case when $2 then key end) as k`, topic, each)
}

// watchBy looks by a statement that returns how many rows and holds there are.
func watchBy(ctx context.Context, d *stage.Database, sql string, args ...any) *watch {
	const every = 250 * time.Millisecond
	w := &watch{}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		for {
			var rows, holds int64
			if err := d.Pool.QueryRow(ctx, sql, args...).Scan(&rows, &holds); err != nil {
				done <- unless(ctx, err)
				return
			}
			w.rows, w.holds = max(w.rows, rows), max(w.holds, holds)
			if stage.Pause(ctx, every) != nil {
				done <- nil
				return
			}
		}
	}()
	w.stop = func() error {
		cancel()
		return <-done
	}
	return w
}
