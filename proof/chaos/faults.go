package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/proxy"
	"github.com/signalbox-go/signalbox/outbox"
)

// The kinds of faults. Each function injects one, and returns when it is over: when everything is as it was, but for what
// follows from it.
var kinds = []kind{
	{name: "worker killed", least: 0, most: 4 * time.Second, run: killWorker},
	{name: "all workers killed", least: 0, most: 3 * time.Second, run: killWorkers},
	{name: "worker stopped", least: 300 * time.Millisecond, most: 5 * time.Second, run: stopWorker},
	{name: "worker stopped for longer than its lease", least: time.Second, most: 4 * time.Second, pastLease: true, run: stopWorker},
	{name: "workers restarted one by one", most: 0, run: restartWorkers},
	{name: "poison", least: 15 * time.Second, most: 15 * time.Second, run: poison}, // about: it ends when its event is dead
	{name: "server killed", most: 2 * time.Second, run: killServer},
	{name: "server shut down, immediate", most: 2 * time.Second, run: quitServer},
	{name: "server shut down, fast", most: 2 * time.Second, run: interruptServer},
	{name: "backends terminated", least: 200 * time.Millisecond, most: 2 * time.Second, run: terminateBackends},
	{name: "connections cut", least: 200 * time.Millisecond, most: 2 * time.Second, run: cutConnections},
	{name: "connections refused", least: 500 * time.Millisecond, most: 4 * time.Second, run: refuseConnections},
	{name: "network slow", least: time.Second, most: 6 * time.Second, run: slowNetwork},
	{name: "network half-open", least: 500 * time.Millisecond, most: 5 * time.Second, run: blockNetwork},
	{name: "network half-open for longer than the lease", least: time.Second, most: 4 * time.Second, pastLease: true, run: blockNetwork},
	{name: silentConnection, least: 6 * time.Second, most: 8 * time.Second, pastLease: true, run: silenceConnection},
	{name: "snapshot held", least: time.Second, most: 8 * time.Second, run: holdSnapshot},
	{name: "writer held open", least: time.Second, most: 8 * time.Second, run: holdWriter},
	{name: "producer killed", most: time.Second, run: killProducer},
	{name: hotKey, least: 4 * time.Second, most: 5 * time.Second, run: heatKey},
	{name: lateGiant, least: time.Second, most: 5 * time.Second, run: commitGiant},
	{name: deadEndpoint, least: 2 * time.Second, most: 5 * time.Second, run: killEndpoint},
	{name: "outage", least: 9 * time.Second, most: 12 * time.Second, run: outage},
}

// silentConnection is named by the judge, too: it bounds what this fault alone may hold up.
const silentConnection = "connection silent for longer than the lease"

// Those that burden a few keys are, too: others must not wait for them.
const (
	hotKey       = "hot key"
	lateGiant    = "late giant"
	deadEndpoint = "dead endpoint"
)

// victim chooses a worker's post.
func (w *world) victim(f *fault) *post { return w.crew.posts[f.choose(len(w.crew.posts))] }

// killWorker kills one. Its place stays empty for a while.
func killWorker(ctx context.Context, w *world, f *fault) error {
	p := w.victim(f)
	w.say("%s is killed", p.name)
	p.hold(true)
	defer p.hold(false)
	p.signal(syscall.SIGKILL)
	pause(ctx, f.length)
	return nil
}

func killWorkers(ctx context.Context, w *world, f *fault) error {
	for _, p := range w.crew.posts {
		p.hold(true)
		defer p.hold(false)
		p.signal(syscall.SIGKILL)
	}
	pause(ctx, f.length)
	return nil
}

// stopWorker stops a process, and lets it go on as if nothing had been: after its lease, that is a zombie, which believes in lanes that
// are others' by now.
func stopWorker(ctx context.Context, w *world, f *fault) error {
	p := w.victim(f)
	w.say("%s is stopped", p.name)
	p.signal(syscall.SIGSTOP)
	defer p.signal(syscall.SIGCONT)
	pause(ctx, f.length)
	return nil
}

// restartWorkers has one after the other end in good order.
func restartWorkers(ctx context.Context, w *world, _ *fault) error {
	for _, p := range w.crew.posts {
		select {
		case <-p.signal(syscall.SIGTERM):
		case <-time.After(45 * time.Second):
			w.crew.fault("%s was told to stop, and has not within 45s", p.name)
		case <-ctx.Done():
		}
	}
	return nil
}

// poison publishes an event that kills its worker at each attempt, and ends when it is a dead letter.
func poison(ctx context.Context, w *world, _ *fault) error {
	number, err := w.publish(ctx, func(ctx context.Context, tx pgx.Tx, t *transaction, key int32) (int64, error) {
		return publishOne(ctx, tx, t, planned{key: key, topic: placed, act: kill})
	}, true)
	if err != nil {
		w.say("the poison could not be published: %v", err)
		return nil
	}
	// Each attempt takes a takeover, so this may last. It is no fault of the worker's if it takes longer: other faults have
	// their part.
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; {
		var state string
		err := w.db.QueryRow(ctx, `
			select d.state from outbox.deliveries d where (d.payload ->> 'number')::bigint = $1`, number).Scan(&state)
		if err == nil && state == string(outbox.Dead) {
			return nil
		}
		pause(ctx, 100*time.Millisecond)
	}
	return nil
}

// downFor sends the server a signal, and starts it again after a while. One at a time.
func (w *world) downFor(ctx context.Context, s syscall.Signal, length time.Duration) error {
	w.serverDown.Lock()
	defer w.serverDown.Unlock()
	if err := syscall.Kill(w.server.Pid(), s); err != nil {
		return fmt.Errorf("signal PostgreSQL: %w", err)
	}
	pause(ctx, length)
	restart, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return w.server.Restart(restart)
}

func killServer(ctx context.Context, w *world, f *fault) error {
	return w.downFor(ctx, syscall.SIGKILL, f.length)
}

func quitServer(ctx context.Context, w *world, f *fault) error {
	return w.downFor(ctx, syscall.SIGQUIT, f.length)
}

func interruptServer(ctx context.Context, w *world, f *fault) error {
	return w.downFor(ctx, syscall.SIGINT, f.length)
}

// terminateBackends ends all sessions, again and again.
func terminateBackends(ctx context.Context, w *world, f *fault) error {
	for end := time.Now().Add(f.length); time.Now().Before(end) && ctx.Err() == nil; {
		statement, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, _ = w.db.Exec(statement, `
			select pg_terminate_backend(a.pid) from pg_stat_activity a
			where a.datname = current_database() and a.pid <> pg_backend_pid()`) // the server may be away
		cancel()
		pause(ctx, 150*time.Millisecond)
	}
	return nil
}

// networks chooses whose connections to the server are hit: one worker's, the publishers', the producer's, or, if it does not
// last long, everybody's.
func (w *world) networks(f *fault) []*proxy.Proxy {
	var all []*proxy.Proxy
	for _, p := range w.crew.posts {
		all = append(all, p.proxy)
	}
	all = append(all, w.proxy, w.producer.proxy)
	if n := f.choose(len(all) + 2); n < len(all) || f.length > w.lease {
		all = all[n%len(all):][:1]
	}
	for _, p := range all {
		w.say("the network of %s", p.Name())
	}
	return all
}

func cutConnections(ctx context.Context, w *world, f *fault) error {
	networks := w.networks(f)
	for end := time.Now().Add(f.length); time.Now().Before(end) && ctx.Err() == nil; {
		for _, p := range networks {
			p.Cut()
		}
		pause(ctx, 200*time.Millisecond)
	}
	return nil
}

func refuseConnections(ctx context.Context, w *world, f *fault) error {
	for _, p := range w.networks(f) {
		p.Refuse(1)
		defer p.Refuse(-1)
		p.Cut()
	}
	pause(ctx, f.length)
	return nil
}

func slowNetwork(ctx context.Context, w *world, f *fault) error {
	delay := time.Duration(1+f.choose(80)) * time.Millisecond
	for _, p := range w.networks(f) {
		p.Slow(delay)
		defer p.Slow(-delay)
	}
	pause(ctx, f.length)
	return nil
}

// blockNetwork swallows everything, while both sides believe in their connections. Then what was held up arrives, late, or the
// connections are cut.
func blockNetwork(ctx context.Context, w *world, f *fault) error {
	networks := w.networks(f)
	for _, p := range networks {
		p.Block(1)
	}
	pause(ctx, f.length)
	if f.choose(2) == 0 {
		for _, p := range networks {
			p.Cut()
		}
	}
	for _, p := range networks {
		p.Block(-1)
	}
	return nil
}

// silenceConnection has one connection of a worker pass nothing, while all others do: the next one in turn each time, whatever it is for.
func silenceConnection(ctx context.Context, w *world, f *fault) error {
	p, n := w.victim(f), int(w.silenced.Add(1))
	end := p.proxy.Silence(n)
	if end == nil {
		w.say("%s has no connection", p.name)
		return nil
	}
	defer end()
	w.say("connection %d of %s passes nothing", n, p.name)
	pause(ctx, f.length)
	return nil
}

// holdSnapshot keeps a snapshot, as a long report or a dump does.
func holdSnapshot(ctx context.Context, w *world, f *fault) error {
	_ = pgx.BeginTxFunc(ctx, w.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		var n int
		err := tx.QueryRow(ctx, `select count(*) from outbox.events`).Scan(&n)
		pause(ctx, f.length)
		return err
	}) // the server may go away meanwhile
	return nil
}

// holdWriter publishes, and leaves its transaction open while others with higher transaction ids and event ids commit. Then it
// commits, or does not.
func holdWriter(ctx context.Context, w *world, f *fault) error {
	_, err := w.publish(ctx, func(writing context.Context, tx pgx.Tx, t *transaction, key int32) (int64, error) {
		var events []planned
		for i := range 20 {
			e := planned{key: key, topic: placed}
			if i%2 == 0 {
				e.key = noKey
			}
			events = append(events, e)
		}
		for _, e := range events {
			if _, err := publishOne(writing, tx, t, e); err != nil {
				return 0, err
			}
		}
		pause(ctx, f.length)
		// More of it: of one transaction, early and late ids.
		return publishOne(writing, tx, t, events[1])
	}, f.choose(3) > 0)
	if err != nil {
		w.say("the writer that was held open was ended: %v", err)
	}
	return nil
}

// heatKey publishes a burst of one key, whose handlers take several seconds for it.
func heatKey(ctx context.Context, w *world, f *fault) error {
	w.burden(ctx, 300, laborious, 0)
	pause(ctx, f.length)
	return nil
}

// commitGiant publishes far more events of one key than a window has, in a transaction that commits late.
func commitGiant(ctx context.Context, w *world, f *fault) error {
	w.burden(ctx, 2000, bulk, f.length)
	return nil
}

// killEndpoint has all events of a few keys fail for a while, more than their lines have room for.
func killEndpoint(ctx context.Context, w *world, f *fault) error {
	if err := w.signs.raise(endpointDead); err != nil {
		return err
	}
	for range 3 {
		w.burden(ctx, 150, refused, 0)
	}
	pause(ctx, f.length)
	return w.signs.lower(endpointDead)
}

// outageRest is what follows from an outage: how long workers may wait before they try again, and a little more.
const outageRest = 7 * time.Second

// outage has all handlers fail for a while, but those of the subscription flaky. It is over when workers have had the time to notice.
func outage(ctx context.Context, w *world, f *fault) error {
	if err := w.signs.raise(handlersFail); err != nil {
		return err
	}
	pause(ctx, f.length-outageRest)
	err := w.signs.lower(handlersFail)
	pause(ctx, outageRest)
	return err
}

// burden publishes n events of one key in one transaction, and keeps it open for a while.
func (w *world) burden(ctx context.Context, n int, does act, open time.Duration) {
	_, err := w.publish(ctx, func(writing context.Context, tx pgx.Tx, t *transaction, key int32) (int64, error) {
		plan := slices.Repeat([]planned{{key: key, topic: placed, act: does}}, n)
		events := make([]outbox.Event, n)
		for i, number := range t.plan(plan...) {
			var err error
			if events[i], err = outbox.NewEvent(placed.String(), t.ledger.keyName(key), payload{Number: number, Act: does}); err != nil {
				return 0, err
			}
		}
		_, err := outbox.Publish(writing, tx, events...)
		pause(ctx, open)
		return 0, err
	}, true)
	if err != nil {
		w.say("%d events of one key could not be published: %v", n, err)
	}
}

func killProducer(ctx context.Context, w *world, f *fault) error {
	w.producer.signal(syscall.SIGKILL)
	pause(ctx, f.length)
	return nil
}

// publishOne publishes one event in a transaction of the ledger.
func publishOne(ctx context.Context, tx pgx.Tx, t *transaction, p planned) (int64, error) {
	number := t.plan(p)[0]
	e, err := outbox.NewEvent(p.topic.String(), t.ledger.keyName(p.key), payload{Number: number, Act: p.act})
	if err != nil {
		return number, err
	}
	_, err = outbox.Publish(ctx, tx, e)
	return number, err
}

var errNotCommitted = errors.New("not committed")

// publish runs a transaction of a fault, with a key and a connection of its own, and writes down what became of it.
func (w *world) publish(ctx context.Context, write func(context.Context, pgx.Tx, *transaction, int32) (int64, error), commit bool) (number int64, err error) {
	ctx = context.WithoutCancel(ctx) // what was begun is ended
	conn, err := pgx.Connect(ctx, w.server.URL("postgres"))
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	t := w.ledger.begin()
	o := rolledBack
	defer func() { t.end(o) }()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, err
	}
	if number, err = write(ctx, tx, t, w.ledger.addKey(fmt.Sprintf("fault-%d", t.number))); err != nil {
		return 0, err
	}
	if !commit {
		return 0, errors.Join(tx.Rollback(ctx), errNotCommitted)
	}
	o, err = outcomeOf(tx.Commit(ctx))
	return number, err
}
