package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

const (
	operatedRate = 1000 // events a second
	// otherSubscription is what is replayed to.
	otherSubscription = "other"
	replayRate        = 5000 // events a second, where a replay has one

	quietCase       = "1000/s: nothing else"
	retentionCase   = "1000/s: retention deletes"
	replayCase      = "1000/s: a replay to another subscription"
	replayApartCase = "1000/s: a replay to one in another process"
	replayRatedCase = "1000/s: a replay of 5000/s"
	rewindCase      = "1000/s: another subscription goes back"
	viewedCase      = "1000/s: the dashboard is open"

	drainAloneCase   = "drain: nothing else"
	drainViewedCase  = "drain: the dashboard is open"
	drainMetricsCase = "drain: metrics"
)

func operating() stage.Scenario {
	ours := func(name, value string) report.Ref {
		return report.Ref{Case: name, System: systems.Signalbox, Value: value}
	}
	s := stage.Scenario{
		Scenario: report.Scenario{
			Number: 12,
			Title:  "Operating",
			Method: `What operators do, beside a steady stream of 1,000 events a second, as in scenario 2, and beside a drain, as in scenario 3. The stream
has a log of a backlog's size behind it, which the stream's subscription and another one have handled; one worker serves both. Latency is the stream's, for as
long as it goes on. "Retention deletes" that log, and no event of the stream. "A replay" is the command outbox replay with a filter, at its own pace: it
is interrupted on its way and goes on with the command that it prints. One "of 5000/s" has that --rate, and is over when a steady state is; "goes back" is
all of the log with --from beginning. They count only if every event that they are about was handled again. "The dashboard is open" in three browsers that watch the overview, and each opens another page each second. "Metrics" are
the hooks of metrics, which count and time each event.`,
			Columns: []report.Column{
				{Key: "p99", Title: "p99 ms"},
				{Key: "p50", Title: "p50 ms"},
				{Key: "p999", Title: "p99.9 ms"},
				{Key: "out", Title: "out/s"},
				{Key: "beside", Title: "deleted or replayed/s"},
				{Key: "page", Title: "median page ms"},
				{Key: "rate", Title: "drained/s"},
			},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			var cells []stage.Cell
			for _, c := range []struct {
				name string
				run  func(context.Context, *stage.Measurement) error
			}{
				{quietCase, operatedCell(e, stream{}, (*operated).undisturbed)},
				{retentionCase, operatedCell(e, stream{old: true}, (*operated).trimmed)},
				{replayCase, operatedCell(e, stream{}, (*operated).replayed)},
				{replayApartCase, operatedCell(e, stream{apart: true}, (*operated).replayed)},
				{replayRatedCase, operatedCell(e, stream{}, (*operated).replayedSlowly)},
				{rewindCase, operatedCell(e, stream{}, (*operated).rewound)},
				{viewedCase, operatedCell(e, stream{}, (*operated).viewed)},
				{drainAloneCase, operatedDrain(e, stage.Work{}, false)},
				{drainViewedCase, operatedDrain(e, stage.Work{}, true)},
				{drainMetricsCase, operatedDrain(e, stage.Work{Metrics: true}, false)},
			} {
				cells = append(cells, stage.Cell{Name: c.name, System: systems.Signalbox, Run: c.run})
			}
			return cells
		},
	}
	for _, name := range []string{retentionCase, replayCase, replayApartCase, replayRatedCase, rewindCase, viewedCase} {
		s.Targets = append(s.Targets,
			report.Target{What: name + ": p50", Of: ours(name, "p50"), Against: []report.Ref{ours(quietCase, "p50")}, AtMost: 1.25, Unit: "of that beside nothing"},
			report.Target{What: name + ": p99", Of: ours(name, "p99"), Against: []report.Ref{ours(quietCase, "p99")}, AtMost: 2, Unit: "of that beside nothing"})
	}
	beside := []report.Ref{ours(drainAloneCase, "rate")}
	s.Targets = append(s.Targets,
		report.Target{What: drainViewedCase, Of: ours(drainViewedCase, "rate"), Against: beside, AtLeast: 0.95, Unit: "of the rate beside nothing"},
		report.Target{What: drainMetricsCase, Of: ours(drainMetricsCase, "rate"), Against: beside, AtLeast: 0.9, Unit: "of the rate beside nothing"})
	return s
}

// operatedDrain is the drain of scenario 3.
func operatedDrain(e *stage.Env, o stage.Work, open bool) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		ours, n := e.Systems[0], int64(e.Events)
		d, err := e.Filled(ctx, ours, n)
		if err != nil {
			return err
		}
		defer d.Close()
		if !open {
			return e.Drained(ctx, m, d, ours, 1, o, n)
		}
		// The worker would create it, but somebody looks at it before.
		if _, err := engine.Subscribe(ctx, d.Pool, systems.DefaultSubscription, []string{systems.Topic}, outbox.FromBeginning); err != nil {
			return err
		}
		v, err := view(ctx, d)
		if err != nil {
			return err
		}
		return errors.Join(e.Drained(ctx, m, d, ours, 1, o, n), v.close())
	}
}

// A stream is what is operated on.
type stream struct {
	old   bool // the log behind it has expired
	apart bool // the other subscription has a process of its own
}

// An operated is a service with a log behind it, while something is done.
type operated struct {
	stream
	env     *stage.Env
	d       *stage.Database
	events  int64 // of the log
	service *stage.Service
	again   func() int64 // how many events of the log the other subscription has handled again
	m       *stage.Measurement
}

// operatedCell measures a stream while something is done.
func operatedCell(e *stage.Env, s stream, do func(o *operated, ctx context.Context) error) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) (err error) {
		o := &operated{stream: s, env: e, events: int64(e.Events), m: m}
		if o.d, err = settledLog(ctx, e, o.events, s.old); err != nil {
			return fmt.Errorf("make a log: %w", err)
		}
		defer o.d.Close()
		o.service = stage.NewService(o.d, e.Systems[0], stage.SteadyProducers, operatedRate)
		o.service.Next.Store(o.events)
		stop, err := o.work(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		if err := o.service.First(ctx, &o.service.Handled); err != nil {
			return err
		}
		return o.service.While(ctx, func() error {
			if err := stage.Pause(ctx, warmUp(e)); err != nil {
				return err
			}
			return do(o, ctx)
		})
	}
}

func warmUp(e *stage.Env) time.Duration { return min(2*time.Second, e.Duration/4) }

// settledLog returns a database with n events that two subscriptions have handled.
func settledLog(ctx context.Context, e *stage.Env, n int64, old bool) (*stage.Database, error) {
	ours := e.Systems[0]
	publish := ours.Publish
	if old {
		publish = copyOld
	}
	d, err := e.FilledBy(ctx, ours, n, publish)
	if err != nil {
		return nil, err
	}
	subscriptions := []string{systems.DefaultSubscription, otherSubscription}
	c, err := e.StartCrew(ctx, d, ours, 1, stage.Work{Subscriptions: subscriptions})
	if err == nil {
		defer c.Kill()
		if err = c.Begin(); err == nil {
			_, err = c.Handle(ctx, n*int64(len(subscriptions)))
		}
	}
	if err == nil {
		err = c.Stop()
	}
	if err == nil {
		err = d.Calm(ctx)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// copyOld writes events that are a month old.
func copyOld(ctx context.Context, tx pgx.Tx, events []systems.Event) error {
	month := time.Now().AddDate(0, -1, 0)
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"outbox", "events"}, []string{"topic", "key", "payload", "published_at"},
		pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
			return []any{systems.Topic, events[i].Key, events[i].Payload, month}, nil
		}))
	return err
}

// keep is for how long the stream's events stay, where the log is to be deleted: a worker looks a hundred times in that, so it begins
// when the stream has warmed up.
func (o *operated) keep() time.Duration {
	if !o.old {
		return worker.Unlimited
	}
	return 100 * (warmUp(o.env) + 2*time.Second)
}

// work runs the worker of the service, and one for the other subscription if that is apart, until stop is called.
func (o *operated) work(ctx context.Context) (stop func() error, err error) {
	w, err := worker.New(o.d.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler), Retention: o.keep()})
	if err != nil {
		return nil, err
	}
	handle := func(subscription string, handler systems.Handler) error {
		return worker.Handle(w, worker.Subscription{Name: subscription, Topics: []string{systems.Topic}},
			func(ctx context.Context, e *worker.Event[json.RawMessage]) error { return handler(ctx, e.Payload) })
	}
	if err := handle(systems.DefaultSubscription, o.service.Handle); err != nil {
		return nil, err
	}
	apart := func() error { return nil }
	if o.apart {
		p, err := o.env.StartProcess(ctx, o.d, o.env.Systems[0], stage.Work{Subscriptions: []string{otherSubscription}, Distinct: o.events}, nil)
		if err != nil {
			return nil, err
		}
		if err := p.Begin(); err != nil {
			return nil, errors.Join(err, p.Stop())
		}
		o.again, apart = p.Handled.Load, p.Stop
	} else {
		again := stage.NewDistinct(o.events)
		o.again = again.Count.Load
		err := handle(otherSubscription, func(_ context.Context, payload []byte) error {
			again.Add(stage.Sequence(payload))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() error {
		cancel()
		return errors.Join(<-done, apart())
	}, nil
}

// observe measures the stream while do runs.
func (o *operated) observe(do func() error) error {
	o.m.Begin()
	span, err := o.service.ObserveWhile(do)
	o.m.End()
	if err != nil {
		return err
	}
	span.Report(o.m)
	return nil
}

// undisturbed is the stream alone.
func (o *operated) undisturbed(ctx context.Context) error {
	return o.observe(func() error { return stage.Pause(ctx, o.env.Duration) })
}

// viewed has the dashboard open.
func (o *operated) viewed(ctx context.Context) (err error) {
	v, err := view(ctx, o.d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	if err := o.undisturbed(ctx); err != nil {
		return err
	}
	o.m.Set("page", v.took.Milliseconds(50))
	return nil
}

// trimmed has retention delete the log, for as long as a steady state is measured, or there is something to delete.
func (o *operated) trimmed(ctx context.Context) error {
	query := func(sql string, into any, args ...any) error { return o.d.Pool.QueryRow(ctx, sql, args...).Scan(into) }
	var begun bool
	for deadline := time.Now().Add(time.Minute); !begun; {
		if err := query(`select max(t.up_to) > 0 from outbox.trimmed t`, &begun); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("nothing is deleted")
		}
		if err := stage.Pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	left := func() (n int64, at time.Time, err error) {
		at = time.Now()
		err = query(`select count(*) from outbox.events e where e.id <= $1`, &n, o.events)
		return n, at, err
	}
	before, start, err := left()
	if err != nil {
		return err
	}
	err = o.observe(func() error {
		for end := time.Now().Add(o.env.Duration); time.Now().Before(end); {
			if err := stage.Pause(ctx, min(50*time.Millisecond, o.env.Duration/10)); err != nil {
				return err
			}
			var more bool // 64 looks into an index
			err := query(`
				select bool_or(exists (select from outbox.events e where e.lane = t.lane and e.id > t.up_to and e.id <= $1))
				from outbox.trimmed t`, &more, o.events)
			if err != nil || !more {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	after, end, err := left()
	o.m.Set("beside", float64(before-after)/end.Sub(start).Seconds())
	return err
}

// replayed has the command replay the log to the other subscription, interrupts it, and has it go on.
func (o *operated) replayed(ctx context.Context) error {
	args := []string{"--max-id", strconv.FormatInt(o.events, 10)}
	const many = 50_000
	if o.events < many { // so slow that there is something to interrupt
		args = append(args, "--rate", strconv.FormatInt(o.events, 10))
	}
	return o.replay(ctx, o.events, func() error {
		first, err := o.command(ctx, args, func() bool { return o.again() > o.events/4 })
		if err != nil {
			return err
		}
		if first.Done {
			return errors.New("the replay was done before it could be interrupted")
		}
		// The command is for a shell, as people type it.
		path, err := o.env.Tool(ctx)
		if err != nil {
			return err
		}
		resume := exec.CommandContext(ctx, "sh", "-c", first.Resume)
		resume.Env = append(os.Environ(), "DATABASE_URL="+o.d.URL, "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"))
		second, err := runReplay(ctx, resume, nil)
		if err == nil && (!second.Done || first.Events+second.Events != o.events) {
			err = fmt.Errorf("%d and %d events were replayed, of %d", first.Events, second.Events, o.events)
		}
		return err
	})
}

// replayedSlowly has the command replay so much of the log that it takes as long as a steady state is measured.
func (o *operated) replayedSlowly(ctx context.Context) error {
	n := min(o.events, int64(replayRate*o.env.Duration.Seconds()))
	return o.replay(ctx, n, func() error {
		_, err := o.command(ctx, []string{"--max-id", strconv.FormatInt(n, 10), "--rate", strconv.Itoa(replayRate)}, nil)
		return err
	})
}

// rewound has the other subscription go back to the beginning.
func (o *operated) rewound(ctx context.Context) error {
	return o.replay(ctx, o.events, func() error {
		_, err := o.command(ctx, []string{"--from", "beginning"}, nil)
		return err
	})
}

// replay measures until n events of the log were handled again, once do has asked for that.
func (o *operated) replay(ctx context.Context, n int64, do func() error) error {
	if _, err := o.env.Tool(ctx); err != nil { // which takes its time to build
		return err
	}
	start := time.Now()
	err := o.observe(func() error {
		if err := do(); err != nil {
			return err
		}
		return stage.Progress(ctx, n, o.again, func() error { return nil })
	})
	o.m.Set("beside", float64(n)/time.Since(start).Seconds())
	return err
}

// A replayAnswer is what outbox replay --json prints.
type replayAnswer struct {
	Events int64
	Done   bool
	Resume string
}

// command runs outbox replay, and interrupts it when enough is true.
func (o *operated) command(ctx context.Context, args []string, enough func() bool) (replayAnswer, error) {
	cmd, err := o.env.Operate(ctx, o.d, append([]string{"replay", otherSubscription, "--yes", "--json"}, args...)...)
	if err != nil {
		return replayAnswer{}, err
	}
	return runReplay(ctx, cmd, enough)
}

func runReplay(ctx context.Context, cmd *exec.Cmd, enough func() bool) (a replayAnswer, err error) {
	const interrupted = 130
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		return a, err
	}
	if enough != nil {
		err := stage.Await(ctx, stage.StuckAfter, "a part is replayed", enough)
		if signal := cmd.Process.Signal(os.Interrupt); err == nil && !errors.Is(signal, os.ErrProcessDone) {
			err = signal
		}
		if err != nil {
			return a, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
	}
	return a, stage.Answer(cmd, &stdout, &a, interrupted)
}
