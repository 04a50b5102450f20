package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/producer"
)

// Who publishes: 200 keys, each with one publisher that publishes one transaction after the other.
const (
	directPublishers = 8
	keysOfDirect     = 20
	httpPublishers   = 4
	keysOfHTTP       = 10
)

// patience is how long a publisher waits for an answer before it gives up a connection.
const patience = 4 * time.Second

// The publishers are clients of the database and of the producer, in this process. They write down what they were told.
type publishers struct {
	ledger  *ledger
	url     string // of the database, through the proxy
	site    string // of the producer
	running sync.WaitGroup
	stop    context.CancelFunc
}

func startPublishers(l *ledger, seed uint64, url, site string, rate float64) *publishers {
	ctx, stop := context.WithCancel(context.Background())
	p := &publishers{ledger: l, url: url, site: site, stop: stop}
	pause := time.Duration(float64(directPublishers+httpPublishers) / rate * float64(time.Second))
	for n := range directPublishers {
		c := &client{publishers: p, dice: rand.New(rand.NewPCG(seed, uint64(n)))}
		for k := range keysOfDirect {
			c.keys = append(c.keys, l.addKey(fmt.Sprintf("client-%d-%d", n, k)))
		}
		p.running.Go(func() { c.run(ctx, pause) })
	}
	for n := range httpPublishers {
		c := &webClient{publishers: p, dice: rand.New(rand.NewPCG(seed, uint64(1000+n))), http: &http.Client{Timeout: patience}}
		for k := range keysOfHTTP {
			c.keys = append(c.keys, l.addKey(fmt.Sprintf("web-%d-%d", n, k)))
		}
		p.running.Go(func() { c.run(ctx, pause) })
	}
	return p
}

// close ends the publishers. What they have begun, they end.
func (p *publishers) close() {
	p.stop()
	p.running.Wait()
}

// between pauses for a random time, on average d.
func between(ctx context.Context, dice *rand.Rand, d time.Duration) {
	pause(ctx, time.Duration(dice.ExpFloat64()*float64(d)))
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// A client publishes in transactions of its own.
type client struct {
	*publishers
	keys []int32
	dice *rand.Rand
	conn *pgx.Conn
}

func (c *client) run(ctx context.Context, pause time.Duration) {
	defer func() { c.hangUp() }()
	for ctx.Err() == nil {
		if between(ctx, c.dice, pause); ctx.Err() != nil {
			return
		}
		if c.conn == nil {
			dial, cancel := context.WithTimeout(ctx, patience)
			conn, err := pgx.Connect(dial, c.url)
			cancel()
			if err != nil {
				continue
			}
			c.conn = conn
		}
		t := c.ledger.begin()
		o, err := c.publish(ctx, t)
		t.end(o)
		if err != nil {
			c.hangUp()
		}
	}
}

func (c *client) hangUp() {
	if c.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = c.conn.Close(ctx)
	c.conn = nil
}

// chance is true so many times in a thousand.
func (c *client) chance(n int) bool { return c.dice.IntN(1000) < n }

// events plans some for a transaction.
func (c *client) events() []planned {
	n := 1
	switch dice := c.dice.IntN(1000); {
	case dice < 3:
		n = 300 + c.dice.IntN(900) // more than fit in a window
	case dice < 30:
		n = 20 + c.dice.IntN(60)
	case dice < 300:
		n = 2 + c.dice.IntN(5)
	}
	events := make([]planned, n)
	for i := range events {
		e := &events[i]
		e.topic = topic(c.dice.IntN(int(created)))
		e.key = noKey
		if !c.chance(250) {
			e.key = c.keys[c.dice.IntN(len(c.keys))]
		}
		if c.chance(30) {
			e.act = act(1 + c.dice.IntN(int(fail)))
			if e.act == hang && c.chance(850) {
				e.act = slow
			}
		}
	}
	return events
}

// publish runs one transaction, and says what it knows of its outcome. After an error, the connection is of no use.
func (c *client) publish(stop context.Context, t *transaction) (outcome, error) {
	// The end of the run does not cut a transaction short: only its pauses.
	ctx, cancel := context.WithTimeout(context.Background(), patience+5*time.Second)
	defer cancel()
	levels := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}
	tx, err := c.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: levels[c.dice.IntN(len(levels))]})
	if err != nil {
		return rolledBack, err
	}
	if c.chance(100) { // its transaction id is older than those of others that will commit before it
		if _, err := tx.Exec(ctx, `select pg_current_xact_id()`); err != nil {
			return rolledBack, err
		}
		between(stop, c.dice, 20*time.Millisecond)
	}
	if err := c.insert(ctx, tx, t, c.events()); err != nil {
		return rolledBack, err
	}
	if c.chance(100) {
		if err := c.subtransaction(ctx, tx, t); err != nil {
			return rolledBack, err
		}
	}
	switch {
	case c.chance(5):
		pause(stop, 500*time.Millisecond+time.Duration(c.dice.IntN(2500))*time.Millisecond)
	case c.chance(100):
		between(stop, c.dice, 30*time.Millisecond)
	}
	switch {
	case c.chance(80):
		return rolledBack, tx.Rollback(ctx)
	case c.chance(30): // an error: the commit that follows is a rollback
		_, _ = tx.Exec(ctx, `select 1 / 0`)
	}
	return outcomeOf(tx.Commit(ctx))
}

// subtransaction publishes behind a savepoint, and may go back to it.
func (c *client) subtransaction(ctx context.Context, tx pgx.Tx, t *transaction) error {
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	before := len(t.events)
	if err := c.insert(ctx, savepoint, t, c.events()); err != nil {
		return err
	}
	if c.chance(500) {
		return savepoint.Commit(ctx)
	}
	t.undo(t.events[before:])
	return savepoint.Rollback(ctx)
}

// insert writes events in one of the ways that there are.
func (c *client) insert(ctx context.Context, tx pgx.Tx, t *transaction, plan []planned) error {
	numbers := t.plan(plan...)
	events := make([]outbox.Event, len(plan))
	for i, p := range plan {
		raw, err := json.Marshal(payload{Number: numbers[i], Act: p.act})
		if err != nil {
			return err
		}
		events[i] = outbox.Event{Topic: p.topic.String(), Key: c.ledger.keyName(p.key), Payload: raw}
	}
	switch {
	case c.chance(100):
		_, err := outbox.PublishFrom(ctx, tx, func(yield func(outbox.Event, error) bool) {
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
		})
		return err
	case len(events) == 1 && c.chance(300):
		_, err := tx.Exec(ctx, `insert into outbox.events (topic, key, payload) values ($1, nullif($2, ''), $3)`,
			events[0].Topic, events[0].Key, events[0].Payload)
		return err
	}
	_, err := outbox.Publish(ctx, tx, events...)
	return err
}

// outcomeOf says what a commit's error means. Only an answer of a server that lives on says that nothing was committed.
func outcomeOf(err error) (outcome, error) {
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return committed, nil
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return rolledBack, nil
	case errors.As(err, &refused) && refused.SeverityUnlocalized == "ERROR":
		return rolledBack, err
	}
	return unknown, err
}

// A webClient sends signals to the producer. Their values are the numbers of events, their names the keys.
type webClient struct {
	*publishers
	keys []int32
	dice *rand.Rand
	http *http.Client
}

func (c *webClient) run(ctx context.Context, pause time.Duration) {
	defer c.http.CloseIdleConnections()
	for ctx.Err() == nil {
		if between(ctx, c.dice, pause); ctx.Err() != nil {
			return
		}
		t := c.ledger.begin()
		key := c.keys[c.dice.IntN(len(c.keys))]
		number := t.plan(planned{key: key, topic: created})[0]
		t.end(c.send(producer.Signal{Name: c.ledger.keyName(key), Value: float64(number)}))
	}
}

// send says what the answer says, and unknown where there is none.
func (c *webClient) send(s producer.Signal) outcome {
	body, err := json.Marshal(struct {
		Name  string  `json:"name"`
		Value float64 `json:"value"`
	}{s.Name, s.Value})
	if err != nil {
		return rolledBack
	}
	response, err := c.http.Post(c.site+"/ingest", "application/json", bytes.NewReader(body))
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return rolledBack // nobody was there
		}
		return unknown
	}
	defer response.Body.Close()
	var answer struct {
		Signal producer.Signal
		Error  string
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return unknown
	}
	switch {
	case response.StatusCode == http.StatusOK && math.Abs(answer.Signal.Value-s.Value) < 0.5:
		return committed
	case response.StatusCode == http.StatusServiceUnavailable && answer.Error == "the database cannot be reached":
		return rolledBack // the producer promises that
	}
	return unknown
}
