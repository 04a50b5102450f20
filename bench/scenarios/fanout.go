package scenarios

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/systems"
)

var fanouts = []int{1, 3, 10}

func subscriptionsCase(n int) string {
	if n == 1 {
		return "1 subscription"
	}
	return fmt.Sprintf("%d subscriptions", n)
}

func subscriptionNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("bench-%d", i)
	}
	return names
}

func fanOut() scenario {
	ours := func(subscriptions int, value string) report.Ref {
		return report.Ref{Case: subscriptionsCase(subscriptions), System: systems.Signalbox, Value: value}
	}
	return scenario{
		Scenario: report.Scenario{
			Number: 5,
			Title:  "Fan-out",
			Method: `Each event goes to every subscription. Published is by 8 producers, one domain row and one event in each transaction: with
the subscriptions there and their worker stopped, which is what a subscription costs a publisher, and beside that worker, which needs the same cores.
Deliveries are those of all subscriptions together, in the drain of a backlog by one process: events times subscriptions are the same for all.
Systems that cannot do this are left out; the others run at their
best settings.`,
			Columns: []report.Column{
				{Key: "deliveries", Title: "deliveries/s in the drain"}, {Key: "alone", Title: "published/s, worker stopped"}, {Key: "beside", Title: "published/s beside the worker"},
			},
		},
		cells: func(e *env) []cell {
			var cells []cell
			for _, n := range fanouts {
				for _, s := range e.ourselvesAnd(best) {
					if s.Info().Fanout {
						cells = append(cells, cell{subscriptionsCase(n), s.Info().Name, e.fanoutCell(s, n)})
					}
				}
			}
			return cells
		},
		targets: []report.Target{
			{
				What: "publishing to 10 subscriptions, against 1, workers stopped", Of: ours(10, "alone"), Against: []report.Ref{ours(1, "alone")},
				AtLeast: 0.95, Unit: "of the rate",
			},
			{
				What: "publishing to 10 subscriptions, against 1, beside their worker", Of: ours(10, "beside"), Against: []report.Ref{ours(1, "beside")},
				AtLeast: 0.95, Unit: "of the rate",
			},
			{What: "10 subscriptions: deliveries in the drain", Of: ours(10, "deliveries"), AtLeast: 300_000, Unit: "/s"},
		},
	}
}

func (e *env) fanoutCell(s systems.System, subscriptions int) func(context.Context, *measurement) error {
	return func(ctx context.Context, m *measurement) error {
		if err := e.fanoutPublish(ctx, m, s, subscriptions); err != nil {
			return err
		}
		n := max(1, e.backlog(s.Info().Rate)/int64(subscriptions))
		d, err := e.filled(ctx, s, n)
		if err != nil {
			return err
		}
		defer d.close()
		drained := &measurement{sample: report.Sample{Values: map[string]float64{}}}
		if err := e.drained(ctx, drained, d, s, 1, work{subscriptions: subscriptionNames(subscriptions)}, n*int64(subscriptions)); err != nil {
			return err
		}
		m.set("deliveries", drained.sample.Values["rate"])
		return nil
	}
}

// fanoutPublish measures publishing beside a worker, and then without it.
func (e *env) fanoutPublish(ctx context.Context, m *measurement, s systems.System, subscriptions int) error {
	d, err := e.open(ctx, s)
	if err != nil {
		return err
	}
	defer d.close()
	t := &traffic{pool: d.pool, publish: publishBy(s), producers: 8}
	var handled atomic.Int64
	stop := startWorker(ctx, s, d, subscriptionNames(subscriptions), func(context.Context, []byte) error {
		handled.Add(1)
		return nil
	})
	measure := func(key string) error {
		return t.while(ctx, func() error {
			if err := pause(ctx, min(time.Second, e.Duration/8)); err != nil {
				return err
			}
			before, start := t.committed.Load(), time.Now()
			if err := pause(ctx, e.Duration/3); err != nil {
				return err
			}
			m.set(key, float64(t.committed.Load()-before)/time.Since(start).Seconds())
			return nil
		})
	}
	if err := t.first(ctx, &handled); err != nil {
		return errors.Join(err, stop())
	}
	m.begin()
	if err := errors.Join(measure("beside"), stop()); err != nil {
		return err
	}
	err = measure("alone")
	m.end()
	return err
}
