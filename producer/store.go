package producer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/outbox"
)

// TopicCreated is the topic of the event that says that a signal was stored. Its key is the signal's name, its payload
// the signal as JSON.
const TopicCreated = "signals.created"

// ErrOutcomeUnknown says that the database went away while it was asked to commit: everything was stored, or nothing.
// With any other error nothing was.
var ErrOutcomeUnknown = errors.New("outcome unknown: the database went away during the commit")

// A Beginner is a pool or a connection of pgx; or a transaction, of which Store's then becomes a part.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Stored is what became of a signal: itself as stored, and its event.
type Stored struct {
	Signal Signal       `json:"signal"`
	Event  outbox.Event `json:"event"`
}

const insertSQL = `
insert into public.signals (name, value, timestamp)
select s.name, s.value, s.timestamp
from unnest($1::text[], $2::double precision[], $3::timestamptz[]) as s (name, value, timestamp)
returning id`

// Store stores signals, each with its event signals.created, in one transaction, and returns them in the same order.
// However many there are, they take one statement, and their events another.
//
// A signal that cannot be stored is reported as a *[SignalError] before anything is sent. Safe for concurrent use as far
// as db is.
//
// The events go to the default outbox; see Config.Outbox of a [Handler] for another.
func Store(ctx context.Context, db Beginner, signals ...Signal) ([]Stored, error) {
	return store(ctx, outbox.Outbox{}, db, signals)
}

func store(ctx context.Context, o outbox.Outbox, db Beginner, signals []Signal) ([]Stored, error) {
	if len(signals) == 0 {
		return nil, nil
	}
	signals = append([]Signal(nil), signals...)
	for i := range signals {
		s := &signals[i]
		if s.Timestamp.IsZero() {
			s.Timestamp = time.Now()
		}
		// What the column will hold, so that the event says exactly the same.
		s.Timestamp = s.Timestamp.UTC().Truncate(time.Microsecond)
		if err := s.check(i); err != nil {
			return nil, err
		}
	}

	var events []outbox.Event
	atCommit := false
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
		if err = insert(ctx, tx, signals); err != nil {
			return err
		}
		if events, err = publish(ctx, o, tx, signals); err != nil {
			return err
		}
		atCommit = true
		return nil
	})
	switch {
	case err != nil && atCommit && !rolledBack(err):
		return nil, fmt.Errorf("store signals: %w: %w", ErrOutcomeUnknown, err)
	case err != nil:
		return nil, fmt.Errorf("store signals: %w", err)
	}

	stored := make([]Stored, len(signals))
	for i := range signals {
		stored[i] = Stored{Signal: signals[i], Event: events[i]}
	}
	return stored, nil
}

// insert stores the signals and gives them their ids.
func insert(ctx context.Context, tx pgx.Tx, signals []Signal) error {
	var (
		names      = make([]string, len(signals))
		values     = make([]float64, len(signals))
		timestamps = make([]time.Time, len(signals))
	)
	for i, s := range signals {
		names[i], values[i], timestamps[i] = s.Name, s.Value, s.Timestamp
	}
	rows, err := tx.Query(ctx, insertSQL, names, values, timestamps)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64]) // in the order of the arrays
	if err != nil {
		return err
	}
	for i := range signals {
		signals[i].ID = ids[i]
	}
	return nil
}

func publish(ctx context.Context, o outbox.Outbox, tx pgx.Tx, signals []Signal) ([]outbox.Event, error) {
	events := make([]outbox.Event, len(signals))
	for i, s := range signals {
		event, err := outbox.NewEvent(TopicCreated, s.Name, s)
		if err != nil {
			return nil, err
		}
		events[i] = event
	}
	return o.Publish(ctx, tx, events...)
}

// rolledBack reports whether an error of a commit rules out that it took effect: PostgreSQL answered with an error and lived
// on. A session that is terminated may have committed just before it says so. pgconn.SafeToRetry would say too much: it is true
// of a connection that was lost while pgx waited for the answer, too.
func rolledBack(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.SeverityUnlocalized == "ERROR"
	}
	return errors.Is(err, pgx.ErrTxCommitRollback)
}
