package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Subscription is a subscription, and who serves it.
type Subscription struct {
	ID        int32      `json:"id"`
	Name      string     `json:"name"`
	Topics    []string   `json:"topics"`
	CreatedAt time.Time  `json:"created_at"`
	PausedAt  *time.Time `json:"paused_at"` // nil while it is not paused
	RewindTo  *int64     `json:"rewind_to"` // it rewinds to just after this id once its workers release its lanes; nil when no rewind waits
	TopicsTo  []string   `json:"topics_to"` // it has these topics once its workers release its lanes; nil when no change waits
	Workers   []string   `json:"workers"`   // names of the live ones that know all of its topics
	SendsTo   string     `json:"sends_to"`  // where the sinks of its live workers send to; "" where its handler is none
	Owned     int        `json:"owned"`     // lanes whose owner lives: none soon after it was paused, otherwise soon all, if it has workers
}

const subscriptionsSQL = `
select s.id, s.name, s.topics, s.created_at, s.paused_at, s.rewind_to, s.topics_to,
       array(select w.name
             from outbox.members m join outbox.workers w on w.id = m.worker_id
             where m.subscription_id = s.id and (m.topics = s.topics or s.topics_to is not null) and ` + engine.LiveSQL + `
             order by w.name),
       coalesce((select string_agg(distinct m.sends_to, ', ')
                 from outbox.members m join outbox.workers w on w.id = m.worker_id
                 where m.subscription_id = s.id and ` + engine.LiveSQL + `), ''),
       (select count(*) from outbox.lanes l join outbox.workers w on w.id = l.owner where l.subscription_id = s.id and ` + engine.LiveSQL + `)
from outbox.subscriptions s`

// ListSubscriptions returns all subscriptions by name: a page would hold them all. Safe for concurrent use as far as db is.
func ListSubscriptions(ctx context.Context, db outbox.DB) ([]Subscription, error) {
	rows, _ := db.Query(ctx, subscriptionsSQL+` order by s.name`)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Subscription])
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	return list, nil
}

// Pause tells the workers of a subscription to stop handling its events, which takes about a second. They finish what they are
// handling, parked events included. Nothing is lost meanwhile: the log is kept for it, and what is to be retried waits. Other
// subscriptions of the same workers go on. Pausing it again changes nothing. It returns ErrUnknownSubscription where there is
// none of that name.
//
// In a transaction, it counts from the commit on. Safe for concurrent use as far as db is.
func Pause(ctx context.Context, db outbox.DB, name string) error {
	return administer(ctx, db, name, "pause", `
		update outbox.subscriptions s set paused_at = coalesce(s.paused_at, clock_timestamp()) where s.name = $1`)
}

// Resume lets the workers of a paused subscription go on where they were. They notice at once. If it is not paused, nothing
// changes. It returns ErrUnknownSubscription where there is none of that name.
//
// In a transaction, it counts from the commit on. Safe for concurrent use as far as db is.
func Resume(ctx context.Context, db outbox.DB, name string) error {
	return administer(ctx, db, name, "resume", `
		update outbox.subscriptions s set paused_at = null where s.name = $1`)
}

// administer changes a subscription and tells the workers, which then ask for their shares.
func administer(ctx context.Context, db outbox.DB, name, what, sql string) error {
	tag, err := db.Exec(ctx, `with changed as (`+sql+` returning 1)
		select outbox.notify('`+engine.LanesPayload+`') from changed`, name)
	if err == nil && tag.RowsAffected() == 0 {
		err = outbox.ErrUnknownSubscription
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", what, name, err)
	}
	return nil
}

// A ServedError says that a subscription cannot be deleted because workers serve it.
type ServedError struct {
	Name    string
	Workers []string // their names
}

func (e *ServedError) Error() string {
	return fmt.Sprintf("subscription %q is served by %s: stop them first, or force it", e.Name, strings.Join(e.Workers, ", "))
}

// DeleteSubscription removes a subscription with its cursors and deliveries, dead letters included. This cannot be
// undone, and events that the log kept only for it may be deleted soon. It returns ErrUnknownSubscription where there is none of
// that name, and a *ServedError while live workers serve it. One that died counts as live until its lease is over, unless its session has ended.
//
// With force, it deletes the subscription even then. Its workers notice with their next settle, and join again: one that names
// the subscription's topics creates it anew, and one that does not ends with ErrUnknownSubscription. What they were handling
// meanwhile may or may not have been handled.
func DeleteSubscription(ctx context.Context, db outbox.Database, name string, force bool) error {
	err := pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		// First the fence, as in an eviction: it waits for settles in flight. They need the subscription's row.
		if _, err := tx.Exec(ctx, `
			delete from outbox.members m using outbox.workers w
			where m.subscription_id = (select s.id from outbox.subscriptions s where s.name = $1)
			  and w.id = m.worker_id and ($2 or not `+engine.LiveSQL+`)`, name, force); err != nil {
			return err
		}
		var id int32
		err := tx.QueryRow(ctx, `select s.id from outbox.subscriptions s where s.name = $1 for update`, name).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return outbox.ErrUnknownSubscription
		}
		if err != nil {
			return err
		}
		if !force {
			// In a later statement: no worker can join any more.
			rows, _ := tx.Query(ctx, `
				select w.name from outbox.members m join outbox.workers w on w.id = m.worker_id
				where m.subscription_id = $1 and `+engine.LiveSQL+`
				order by w.name`, id)
			workers, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			if len(workers) > 0 {
				return &ServedError{Name: name, Workers: workers}
			}
		}
		_, err = tx.Exec(ctx, `delete from outbox.subscriptions s where s.id = $1`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete subscription %q: %w", name, err)
	}
	return nil
}
