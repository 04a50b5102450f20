package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/proc"
	"github.com/signalbox-go/signalbox/worker"
)

// workerRole makes this program a worker, with a workerConfig.
const workerRole proc.Role = "SIGNALBOX_CHAOS_WORKER"

// workerName is how a process calls itself in the database.
const workerName = "chaos-%d"

// A workerConfig is what a worker process is told.
type workerConfig struct {
	URL           string
	Process       int32
	Reports       string // file
	Signs         string // folder
	Lease         time.Duration
	Subscriptions []int
}

// runWorker is the life of a worker process. It returns its exit code.
func runWorker() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	proc.EndWithParent()
	if err := serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serve(ctx context.Context) error {
	var cfg workerConfig
	if err := workerRole.Config(&cfg); err != nil {
		return err
	}
	reporter, err := openReporter(cfg.Reports, cfg.Process)
	if err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, cfg.URL)
	if err != nil {
		return err
	}
	defer pool.Close()
	w, err := worker.New(pool, worker.Config{
		Name: fmt.Sprintf(workerName, cfg.Process), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Lease: cfg.Lease, Concurrency: 20,
		WindowSize: 256, // transactions of more events are read in parts
	})
	if err != nil {
		return err
	}
	for _, s := range cfg.Subscriptions {
		if err := register(w, s, reporter, cfg.Signs); err != nil {
			return err
		}
	}
	return w.Run(ctx)
}

// labour is how long mail takes for an event that is laborious.
const labour = 10 * time.Millisecond

// Of the flaky subscription.
const (
	flakyAttempts = 4
	flakySlow     = 400 * time.Millisecond // parked
	flakyTimeout  = 2 * time.Second
)

func register(w *worker.Worker, s int, out *reporter, signs string) error {
	sub := worker.Subscription{Name: subscriptions[s].name, Topics: subscriptions[s].topics, ParkAfter: subscriptions[s].parkAfter}
	if s == flaky {
		sub.Retry = worker.Retry{MaxAttempts: flakyAttempts, Delay: soon}
		sub.Timeout = flakyTimeout
		return worker.Handle(w, sub, func(ctx context.Context, e *worker.Event[payload]) error { return handleFlaky(ctx, e, out) })
	}
	sub.Retry.Delay = soon
	switch subscriptions[s].form {
	case perEvent:
		return worker.Handle(w, sub, func(_ context.Context, e *worker.Event[payload]) error {
			began, act := now(), e.Payload.Act
			if handlersFail.up(signs) || s == mail && act == refused && endpointDead.up(signs) {
				out.write(s, failed, began, e.Payload.number())
				return errDown
			}
			if s == mail && act == laborious {
				time.Sleep(labour)
			}
			out.write(s, succeeded, began, e.Payload.number())
			return nil
		})
	case batches:
		return worker.HandleBatch(w, sub, func(_ context.Context, events []*worker.Event[payload]) error {
			if handlersFail.up(signs) {
				out.write(s, failed, now(), numbers(events)...)
				return errDown
			}
			out.write(s, succeeded, now(), numbers(events)...)
			return nil
		})
	case inBatchTx:
		return worker.HandleBatchTx(w, sub, func(ctx context.Context, tx pgx.Tx, events []*worker.Event[payload]) error {
			if handlersFail.up(signs) {
				out.write(s, called, now(), numbers(events)...)
				return errDown
			}
			return book(ctx, tx, s, events, out)
		})
	case inTx:
		return worker.HandleTx(w, sub, func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error {
			if handlersFail.up(signs) {
				out.write(s, called, now(), e.Payload.number())
				return errDown
			}
			return book(ctx, tx, s, []*worker.Event[payload]{e}, out)
		})
	case strict:
		return worker.HandleAsync(w, sub, worker.Strict, func(_ context.Context, e *worker.Event[payload], done func(error)) {
			began := now()
			time.AfterFunc(time.Millisecond, func() {
				if handlersFail.up(signs) {
					out.write(s, failed, began, e.Payload.number())
					done(errDown)
					return
				}
				out.write(s, succeeded, began, e.Payload.number())
				done(nil)
			})
		})
	default: // pipelined: an answer that fails would have to fail all behind it, so none does
		return worker.HandleAsync(w, sub, worker.Pipelined, func(_ context.Context, e *worker.Event[payload], done func(error)) {
			out.write(s, succeeded, now(), e.Payload.number())
			time.AfterFunc(time.Millisecond, func() { done(nil) })
		})
	}
}

// soon is when failed events are tried again.
func soon(failed int) time.Duration { return time.Duration(failed) * 50 * time.Millisecond }

func numbers(events []*worker.Event[payload]) []int64 {
	list := make([]int64, len(events))
	for i, e := range events {
		list[i] = e.Payload.number()
	}
	return list
}

// book leaves a row for each event. Then, where an event is to fail once, it fails: the row must go again.
func book(ctx context.Context, tx pgx.Tx, s int, events []*worker.Event[payload], out *reporter) error {
	out.write(s, called, now(), numbers(events)...)
	_, err := tx.Exec(ctx, `
		insert into chaos.effects (subscription, number)
		select $2, n from unnest($1::bigint[]) with ordinality as e (n, place) order by e.place`, numbers(events), s)
	if err != nil {
		return err
	}
	errs := make([]error, len(events))
	for i, e := range events {
		if e.Payload.Act == failOnce && e.Attempt == 1 {
			errs[i] = errAct
		}
	}
	if subscriptions[s].form == inTx {
		return errs[0]
	}
	return worker.PerEvent(errs)
}

var errAct = errors.New("the event asks for it")

// handleFlaky does what the event asks for.
func handleFlaky(ctx context.Context, e *worker.Event[payload], out *reporter) error {
	began, n := now(), e.Payload.number()
	failing := func(err error) error {
		out.write(flaky, failed, began, n)
		return err
	}
	switch a := e.Payload.Act; {
	case a == failOnce && e.Attempt == 1, a == failTwice && e.Attempt <= 2, a == fail:
		return failing(errAct)
	case a == panicOnce && e.Attempt == 1:
		panic(failing(errAct))
	case a == giveUp:
		return worker.DeadLetter(failing(errAct))
	case a == skip:
		return worker.Skip(failing(errAct).Error())
	case a == slow:
		time.Sleep(flakySlow)
	case a == hang && e.Attempt == 1:
		<-ctx.Done()
		return failing(ctx.Err())
	case a == kill:
		out.write(flaky, killing, began, n)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	out.write(flaky, succeeded, began, n)
	return nil
}
