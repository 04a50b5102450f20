package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/producer"
)

// A request that got no answer, because a connection broke or the database restarted, may have been stored or not. Who has
// to know asks the log.

// unanswered returns the signals of requests that failed and of which nothing was seen since.
func (l *ledger) unanswered() []producer.Signal {
	l.mu.Lock()
	defer l.mu.Unlock()
	var signals []producer.Signal
	for _, r := range l.requests {
		if r.failed && r.owed == 1+len(l.labels) {
			signals = append(signals, r.signal)
		}
	}
	return signals
}

// found notes that a signal of such a request is in the log.
func (l *ledger) found(s producer.Signal, id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.requests[markOf(s)]
	if r == nil || !r.failed {
		return // somebody else's with the same timestamp
	}
	r.failed = false
	l.answered++
	l.rescued++
	l.promise(l.event(id))
	l.pay(markOf(s))
}

// findUnanswered asks the log for what no answer told. It tries again while the database is away, until ctx ends.
func (d *demo) findUnanswered(ctx context.Context) error {
	signals := d.ledger.unanswered()
	for len(signals) > 0 {
		err := d.lookFor(ctx, signals)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ask the log what became of %d requests without an answer: %w", len(signals), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// lookForSQL reads the demo's part of the log. Index events_lane_id leads past what is older.
const lookForSQL = `
select e.id, e.payload
from generate_series(0, $1::integer - 1) as l (lane)
cross join lateral (
    select e.id, e.topic, e.payload from outbox.events e where e.lane = l.lane and e.id > $2
) e
where e.topic = $3 and e.payload ->> 'timestamp' = any($4::text[])`

func (d *demo) lookFor(ctx context.Context, signals []producer.Signal) error {
	var timestamps []string
	for _, s := range signals {
		timestamps = append(timestamps, s.Timestamp.Format(time.RFC3339Nano)) // as in JSON
	}
	rows, _ := d.db.Query(ctx, lookForSQL, engine.Lanes, d.before, producer.TopicCreated, timestamps)
	var (
		id      int64
		payload []byte
	)
	_, err := pgx.ForEachRow(rows, []any{&id, &payload}, func() error {
		var s producer.Signal
		if err := json.Unmarshal(payload, &s); err != nil {
			return nil // not a signal, whatever its topic says
		}
		d.ledger.found(s, id)
		return nil
	})
	return err
}
