package scenarios

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// Variants of publishing: who publishes what, and who listens.
const (
	withoutTrigger = "signalbox, doorbell off"
	alwaysNotify   = "signalbox, NOTIFY in each transaction"
	withoutWorker  = "signalbox, no worker"
	plainRow       = "plain row"
)

func publishCost() scenario {
	s := scenario{
		Scenario: report.Scenario{
			Number: 1,
			Title:  "Publish cost",
			Method: `Producers commit one domain row and one event in each transaction, four round trips, as fast as they can, while a
worker of the system handles them in the same process, on the same cores. "No worker" and "plain row" have nobody who handles:
the plain row goes into a table with a primary key and the event's columns (id, topic, key, payload, created_at), and no other
index. "NOTIFY in each transaction" replaces the doorbell by a trigger that always notifies. Times are those of a transaction. What it costs the processors, of the
server and of producers and worker, is theirs together: two cores have 2,000,000 µs a second.`,
			Columns: append([]report.Column{{Key: "rate", Title: "transactions/s"}, {Key: "p50", Title: "p50 ms"}, {Key: "p99", Title: "p99 ms"}},
				costColumns("tx")...),
		},
		cells: func(e *env) []cell {
			var cells []cell
			for _, producers := range []int{1, 8, 32} {
				add := func(name string, run func(ctx context.Context, m *measurement) error) {
					cells = append(cells, cell{producersCase(producers), name, run})
				}
				ours := e.Systems[0]
				add(plainRow, e.publishCell(ours, producers, publishPlain, "", false))
				add(withoutWorker, e.publishCell(ours, producers, publishBy(ours), "", false))
				add(ours.Info().Name, e.publishCell(ours, producers, publishBy(ours), "", true))
				add(withoutTrigger, e.publishCell(ours, producers, publishBy(ours), `alter table outbox.events disable trigger doorbell`, true))
				add(alwaysNotify, e.publishCell(ours, producers, publishBy(ours), alwaysNotifySQL, true))
				for _, peer := range e.peers(best) {
					add(peer.Info().Name, e.publishCell(peer, producers, publishBy(peer), "", true))
				}
			}
			return cells
		},
	}
	for _, producers := range []int{1, 8, 32} {
		name := producersCase(producers)
		rate := func(system string) report.Ref { return report.Ref{Case: name, System: system, Value: "rate"} }
		add := func(what, of, against string, atLeast float64) {
			s.targets = append(s.targets, report.Target{
				What: name + ": " + what, Of: rate(of), Against: []report.Ref{rate(against)}, AtLeast: atLeast, Unit: "of the rate",
			})
		}
		add("(a) the doorbell, against none", systems.Signalbox, withoutTrigger, 0.95)
		add("(b) an event that nobody handles, against a plain row", withoutWorker, plainRow, 0.90)
		add("(c) an event that is delivered, against a plain row", systems.Signalbox, plainRow, 0.70)
		add("(d) the doorbell, against NOTIFY in each transaction", systems.Signalbox, alwaysNotify, 2)
	}
	return s
}

func producersCase(n int) string {
	if n == 1 {
		return "1 producer"
	}
	return fmt.Sprintf("%d producers", n)
}

const alwaysNotifySQL = `
alter table outbox.events disable trigger doorbell;
create function public.always_notify() returns trigger language plpgsql as $$
begin
    perform pg_notify('new_signals', '');
    return null;
end
$$;
create trigger always_notify after insert on outbox.events for each statement execute function public.always_notify()`

// publishCell measures transactions of a kind, in a database that was changed first.
func (e *env) publishCell(s systems.System, producers int, publish publishFunc, change string, working bool) func(context.Context, *measurement) error {
	return func(ctx context.Context, m *measurement) (err error) {
		d, err := e.open(ctx, s)
		if err != nil {
			return err
		}
		defer d.close()
		if _, err := d.pool.Exec(ctx, change); err != nil {
			return err
		}
		t := &traffic{pool: d.pool, publish: publish, producers: producers}
		var handled atomic.Int64
		if working {
			stop := startWorker(ctx, s, d, []string{systems.DefaultSubscription}, func(context.Context, []byte) error {
				handled.Add(1)
				return nil
			})
			defer func() { err = errors.Join(err, stop()) }()
			if err := t.first(ctx, &handled); err != nil {
				return err
			}
		}
		return t.while(ctx, func() error {
			if err := pause(ctx, min(time.Second, e.Duration/8)); err != nil {
				return err
			}
			took := measure.NewLatencies()
			t.took.Store(took)
			spent, err := e.costs(ctx)
			if err != nil {
				return err
			}
			before, start := t.committed.Load(), time.Now()
			m.begin()
			if err := pause(ctx, e.Duration/3); err != nil {
				return err
			}
			m.end()
			n := float64(t.committed.Load() - before)
			m.set("rate", n/time.Since(start).Seconds())
			m.set("p50", took.Milliseconds(50))
			m.set("p99", took.Milliseconds(99))
			return e.cost(ctx, m, spent, n)
		})
	}
}

// first commits one event and waits for it: the worker is there.
func (t *traffic) first(ctx context.Context, handled *atomic.Int64) error {
	if err := t.one(ctx, t.next.Add(1)-1); err != nil {
		return err
	}
	return await(ctx, time.Minute, "the first event is handled", func() bool { return handled.Load() > 0 })
}

// while runs the producers for as long as do takes.
func (t *traffic) while(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, done := make(chan struct{}), make(chan struct{})
	var failed error
	go func() {
		defer close(done)
		if failed = t.run(ctx, stop); failed != nil {
			cancel(failed) // do need not go on
		}
	}()
	err := do()
	close(stop)
	<-done
	if failed != nil {
		return failed
	}
	return err
}
