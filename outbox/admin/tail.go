package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/storable"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// TailConfig says what a [Tail] follows. Its zero value follows everything that the log has.
type TailConfig struct {
	Outbox  outbox.Outbox   // Defaults to the default outbox
	Start   outbox.Position // Defaults to FromBeginning
	Topic   string          // a pattern. Defaults to any topic
	Key     string          // Defaults to any key, and none
	Payload json.RawMessage // JSON that the payload contains, as PostgreSQL's @> has it. Defaults to any payload
	// Path is an SQL/JSON path such as "$.total > 100" or "$.customer.name". The first thing that it finds in the payload must
	// be neither null nor false. Defaults to any payload.
	Path string
}

// A Tail follows the log as it grows. It is no subscription: it keeps its place in memory, changes nothing, and holds nothing up;
// retention does not wait for it.
//
// It reads as workers do, with a cursor that remembers the transactions it has passed: see docs/design.md. So it returns
// each event that matches once, in the order in which they become visible. An event of a long transaction is returned when
// that commits, although its id is lower than some that came before.
//
// All of it goes over one connection, which must be to the primary. When that breaks, the server may have lost history: make
// a new Tail. Not safe for concurrent use.
type Tail struct {
	conn    naming.Conn
	member  *engine.Member
	key     string
	payload *string
	path    *string
}

// tailWindow is how many events a Tail reads at once.
const tailWindow = 1000

// NewTail returns a tail that begins at cfg.Start. The connection is the tail's for as long as the tail is used; it must not be in
// a transaction. It returns ErrInvalidFilter or ErrInvalidPosition for a configuration that is not possible.
func NewTail(ctx context.Context, conn *pgx.Conn, cfg TailConfig) (*Tail, error) {
	patterns := topic.Patterns{">"}
	if cfg.Topic != "" {
		if fault := topic.PatternFault(cfg.Topic); fault != "" {
			return nil, fmt.Errorf("%w: topic %s", ErrInvalidFilter, fault)
		}
		patterns = topic.Patterns{cfg.Topic}
	}
	t := &Tail{conn: naming.Of(cfg.Outbox).Conn(conn), key: cfg.Key}
	if len(cfg.Payload) > 0 {
		if !storable.JSON(cfg.Payload) {
			return nil, fmt.Errorf("%w: payload is not JSON that PostgreSQL can store", ErrInvalidFilter)
		}
		text := string(cfg.Payload)
		t.payload = &text
	}
	err := pgx.BeginTxFunc(ctx, t.conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) (err error) {
		if cfg.Path != "" {
			t.path = &cfg.Path
			if err := checkPath(ctx, tx, cfg.Path); err != nil {
				return err
			}
		}
		t.member, err = engine.Follow(ctx, tx, patterns, cfg.Start)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("follow the log: %w", err)
	}
	return t, nil
}

// checkPath has PostgreSQL parse a path.
func checkPath(ctx context.Context, tx pgx.Tx, path string) error {
	if !storable.Text(path) {
		return fmt.Errorf("%w: path is not UTF-8 text without zero bytes", ErrInvalidFilter)
	}
	_, err := tx.Exec(ctx, `select $1::text::jsonpath`, path)
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return fmt.Errorf("%w: path: %s", ErrInvalidFilter, refused.Message)
	}
	return err
}

// Next returns those of the next events that match, by id, and whether there may be more to read at once. It does not wait: if
// there is no more, listen on the outbox's Channel, and look again once a second or so whatever you hear, as notifications are only sent
// while there are workers. After an error, the tail is of no use any more.
func (t *Tail) Next(ctx context.Context) (events []outbox.Event, more bool, err error) {
	w, err := t.member.Read(ctx, tailWindow)
	if err != nil {
		return nil, false, fmt.Errorf("follow the log: %w", err)
	}
	found := slices.DeleteFunc(w.Events, func(e engine.Event) bool { return t.key != "" && t.key != e.Key })
	if len(found) > 0 && (t.payload != nil || t.path != nil) {
		if found, err = t.matching(ctx, found); err != nil {
			return nil, false, fmt.Errorf("follow the log: %w", err)
		}
	}
	for _, e := range found {
		events = append(events, e.Event)
	}
	return events, w.More(), nil
}

// Index events_lane_id finds the payloads, so that they need not be sent back.
const matchingSQL = `
select e.id
from unnest($1::smallint[], $2::bigint[]) as u (lane, id)
cross join lateral (select e.id, e.payload from outbox.events e where e.lane = u.lane and e.id = u.id limit 1) e
where ($3::jsonb is null or outbox.as_jsonb(e.payload) @> $3::jsonb)
  and ($4::text is null or coalesce(jsonb_path_query_first(outbox.as_jsonb(e.payload), $4::text::jsonpath, '{}', true), 'null') not in ('null', 'false'))`

// matching returns those of events whose payloads match.
func (t *Tail) matching(ctx context.Context, events []engine.Event) ([]engine.Event, error) {
	lanes, ids := make([]int16, len(events)), make([]int64, len(events))
	for i := range events {
		lanes[i], ids[i] = events[i].Lane, events[i].ID
	}
	rows, _ := t.conn.Query(ctx, matchingSQL, lanes, ids, t.payload, t.path)
	found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	wanted := make(map[int64]bool, len(found))
	for _, id := range found {
		wanted[id] = true
	}
	var list []engine.Event
	for _, e := range events {
		if wanted[e.ID] {
			list = append(list, e)
		}
	}
	return list, nil
}
