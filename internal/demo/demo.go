package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/dashboard"
	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/producer"
)

// Config says what to show, and where.
type Config struct {
	// Pool is of a database whose schemas are up to date. Required.
	Pool *pgxpool.Pool

	// Outbox is the one of that database that the demo uses. Defaults to the default outbox.
	Outbox outbox.Outbox

	// OwnURL is the URL of a database that exists for the demo alone; the demo prints it, with the password. Empty means that
	// the database is somebody's: then the demo's subscriptions get names of their own and are removed at the end. Defaults
	// to that.
	OwnURL string

	// Listener is where the producer serves. Run closes it. Required.
	Listener net.Listener

	// Dashboard is where the dashboard serves, on this machine alone. Run closes it. Required.
	Dashboard net.Listener

	// For is how long traffic is sent. 0 means until the context is cancelled.
	For time.Duration

	// Rate is how many requests are sent in a second. Defaults to none: then only other people send some.
	Rate int

	// Workers is how many there are for each subscription, from 1 to 32. Required.
	Workers int

	// Out gets the story, in colour if it is a terminal. Defaults to nothing.
	Out io.Writer

	// Logger gets what goes wrong in workers and producer. Defaults to slog.Default().
	Logger *slog.Logger

	// Patience is how long events may take to arrive after the traffic has ended. Defaults to 10s.
	Patience time.Duration
}

// A demo is one run.
type demo struct {
	cfg     Config
	db      outbox.Database
	ledger  *ledger
	out     *narrator
	flow    *flow
	workers []member
	before  int64 // events up to this one are older than the demo
}

// Run shows the demo and returns when it has ended and everything is tidied up. The end of ctx ends the traffic; events
// that are under way still arrive.
//
// An [ErrIncomplete] says that an event did not reach every subscription; the report comes with it. With any other
// error there is no report.
func Run(ctx context.Context, cfg Config) (_ *Report, err error) {
	defer func() { // where serving never began
		_ = cfg.Listener.Close()
		_ = cfg.Dashboard.Close()
	}()
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.Patience = cmp.Or(cfg.Patience, 10*time.Second)
	if cfg.Out == nil {
		cfg.Out = io.Discard
	}
	d := &demo{cfg: cfg, db: cfg.Outbox.DB(cfg.Pool), ledger: newLedger(labels), out: newNarrator(cfg.Out)}
	defer d.out.close()
	d.flow = newFlow(d.out, cfg.Rate)

	// Before the first worker and the first event, so that both subscriptions begin at the same place.
	names := d.names()
	if err := d.subscribe(ctx, names); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.unsubscribe(names)) }()
	if d.workers, err = d.newWorkers(names); err != nil {
		return nil, err
	}
	board, err := d.board()
	if err != nil {
		return nil, err
	}
	d.introduce(names)

	// Workers outlive ctx: what is published still has to arrive. The first one to fail ends the show.
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	serving, dismiss := context.WithCancel(failed)
	defer dismiss()
	for _, m := range d.workers {
		group.Go(func() error { return m.worker.Run(serving) })
	}
	group.Go(func() error {
		defer context.AfterFunc(serving, board.Close)()
		return cli.Serve(serving, cfg.Dashboard, board)
	})
	err = d.play(ctx, failed, names)
	// The books are closed only after the last handler has returned: a late duplicate counts.
	dismiss()
	if failure := group.Wait(); failure != nil {
		return nil, failure // what play says is a consequence
	}
	if err != nil {
		return nil, err
	}
	report := d.ledger.report()
	d.conclude(report)
	return report, report.verdict()
}

// board is the dashboard. In somebody's database, nobody may change anything: the demo asks for no password.
func (d *demo) board() (*dashboard.Handler, error) {
	return dashboard.NewHandler(d.cfg.Pool, dashboard.Config{
		Outbox: d.cfg.Outbox,
		Logger: d.cfg.Logger, ReadOnly: d.cfg.OwnURL == "", Hosts: []string{"localhost", "127.0.0.1"},
	})
}

// play runs the show, with the workers at work until failed is cancelled.
func (d *demo) play(ctx, failed context.Context, names []string) error {
	if err := d.awaitWorkers(ctx, failed, names); err != nil {
		return err
	}
	d.explainLines()
	if err := d.publish(ctx, failed); err != nil {
		return err
	}
	// Nothing is published any more: what counts as published is known, and only has to arrive.
	patience, cancel := context.WithTimeout(failed, d.cfg.Patience)
	defer cancel()
	if err := d.findUnanswered(patience); err != nil {
		return err
	}
	// The last events are milliseconds old. Only if it takes long is it worth a word.
	moment, cancel := context.WithTimeout(patience, time.Second)
	defer cancel()
	d.ledger.awaitArrival(moment)
	if n := d.ledger.missing(); n > 0 {
		d.out.say("The traffic has ended. Yet to arrive: %s, for which the demo waits %v at most.", countOf(n, "event"), d.cfg.Patience)
		d.ledger.awaitArrival(patience)
	}
	d.flow.tick()
	return nil
}

// publish serves the producer and sends traffic to it, until ctx or failed ends or the time is over.
func (d *demo) publish(ctx, failed context.Context) error {
	if d.cfg.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.cfg.For)
		defer cancel()
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(failed, end)()

	// The producer serves on until the last request of the traffic has its answer.
	open, shut := context.WithCancel(context.WithoutCancel(ctx))
	defer shut()
	served := make(chan error, 1)
	go func() {
		handler := producer.NewHandler(d.cfg.Pool, producer.Config{Outbox: d.cfg.Outbox, Logger: d.cfg.Logger})
		served <- cli.Serve(open, d.cfg.Listener, noteStored(handler, d.ledger.stored))
		end()
	}()
	var ticking sync.WaitGroup
	ticking.Go(func() { d.flow.run(open) })
	defer ticking.Wait()
	defer shut()

	sendTraffic(ctx, siteOf(d.cfg.Listener.Addr()), d.cfg.Rate, d.ledger)
	select {
	case err := <-served: // by itself: it could not go on
		return fmt.Errorf("producer: %w", err)
	default:
	}
	shut()
	if err := <-served; err != nil {
		// Somebody else's request that hung. Its client knows that it has no answer.
		d.out.say("The producer had to %v.", err)
	}
	return nil
}
