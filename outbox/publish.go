package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/uid"
)

// A DB is a transaction, a connection or a pool of pgx.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// A Copier is a transaction, a connection or a pool of pgx, which can run COPY.
type Copier interface {
	DB
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error)
}

// One statement for any number of events. xid, id, lane and published_at are the database's: a forged xid or id would
// break the readers' proof. unnest keeps the order of the arrays, so the ids rise in the order of the events.
//
// The statements mean the same whatever the session has set: there is no null in an array, for array_nulls, and the time comes
// as a number, for DateStyle. What is not ASCII goes to sessions alone that take it for UTF-8, as it is.
const publishSQL = `
insert into outbox.events (topic, key, payload, headers)
select e.topic, nullif(e.key, ''), e.payload::json, e.headers::jsonb
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as e (topic, key, payload, headers)
where $5::boolean or ` + takesUTF8 + `
returning id, ` + publishedSQL

// The same for a single event, as most transactions have: the arrays and their scan would add half of the insert's cost.
const publishOneSQL = `
insert into outbox.events (topic, key, payload, headers)
values ($1::text, nullif($2::text, ''), $3::text::json, $4::text::jsonb)
returning id, ` + publishedSQL

// The same for one that is not ASCII.
const publishOneWideSQL = `
insert into outbox.events (topic, key, payload, headers)
select $1::text, nullif($2::text, ''), $3::text::json, $4::text::jsonb
where ` + takesUTF8 + `
returning id, ` + publishedSQL

const (
	takesUTF8 = `pg_catalog.current_setting('client_encoding') = 'UTF8'`
	// The tag is a constant by the time that the statement runs.
	publishedSQL = `(extract(epoch from published_at) * 1000000)::bigint, outbox.tag()`
)

// errEncoding says that the session would store other characters than were published.
var errEncoding = errors.New("the session's client_encoding is not UTF8, so what is not ASCII would be stored as other characters: " +
	"set it to UTF8, for the connection (client_encoding=UTF8 in its URL), the role or the database")

// Publish appends events to the log and returns them with their ids, UIDs and times, in the same order. It sends one statement.
//
// With a transaction, the events commit with everything else that it writes, or not at all: handlers get every event of a transaction that
// commits, and none of one that rolls back. With a pool, or a connection outside of a transaction, all events are published or none.
//
// Publish returns an *EventError if an event cannot be stored. Nothing is sent then, so the transaction remains usable. It is as safe
// for concurrent use as db is. For more events than should be in memory, see [PublishFrom].
func Publish(ctx context.Context, db DB, events ...Event) ([]Event, error) {
	return Outbox{}.Publish(ctx, db, events...)
}

// Publish is like the function [Publish], for this outbox.
func (o Outbox) Publish(ctx context.Context, db DB, events ...Event) ([]Event, error) {
	if len(events) == 0 {
		return nil, nil
	}
	headers := make([]string, len(events))
	narrow := true
	for i := range events {
		e := &events[i]
		if err := e.check(i); err != nil {
			return nil, err
		}
		headers[i] = "{}"
		if len(e.Headers) > 0 {
			raw, err := json.Marshal(e.Headers)
			if err != nil {
				return nil, fmt.Errorf("encode headers of event %d: %w", i, err)
			}
			headers[i] = string(raw)
		}
		narrow = narrow && isASCII(e.Topic) && isASCII(e.Key) && isASCII(e.Payload) && isASCII(headers[i])
	}
	stored := slices.Clone(events)
	var err error
	if len(stored) == 1 {
		err = o.publishOne(ctx, db, &stored[0], headers[0], narrow)
	} else {
		err = o.publishAll(ctx, db, stored, headers, narrow)
	}
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	return stored, nil
}

func isASCII[T string | json.RawMessage](text T) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// published sets what the database says of an event.
func (e *Event) published(id, micros int64, tag int32) {
	e.ID, e.UID, e.PublishedAt = id, uid.Make(uint16(tag), id, micros), time.UnixMicro(micros)
}

// publishOne sends an event, and sets its id, UID and time.
func (o Outbox) publishOne(ctx context.Context, db DB, e *Event, headers string, narrow bool) error {
	sql := publishOneSQL
	if !narrow {
		sql = publishOneWideSQL
	}
	var (
		id, micros int64
		tag        int32
	)
	err := db.QueryRow(ctx, o.name.SQL(sql), e.Topic, e.Key, string(e.Payload), headers).Scan(&id, &micros, &tag)
	if !narrow && errors.Is(err, pgx.ErrNoRows) {
		return errEncoding
	}
	e.published(id, micros, tag)
	return err
}

// publishAll sends events in one statement, and sets their ids, UIDs and times.
func (o Outbox) publishAll(ctx context.Context, db DB, events []Event, headers []string, narrow bool) error {
	var (
		topics   = make([]string, len(events))
		keys     = make([]string, len(events))
		payloads = make([]string, len(events))
	)
	for i := range events {
		topics[i], keys[i], payloads[i] = events[i].Topic, events[i].Key, string(events[i].Payload)
	}
	rows, err := db.Query(ctx, o.name.SQL(publishSQL), topics, keys, payloads, headers, narrow)
	if err != nil {
		return err
	}
	var (
		id, micros int64
		tag        int32
	)
	i := 0
	_, err = pgx.ForEachRow(rows, []any{&id, &micros, &tag}, func() error {
		events[i].published(id, micros, tag)
		i++
		return nil
	})
	if err == nil && i == 0 {
		return errEncoding
	}
	return err
}

// PublishFrom appends events to the log with COPY, as the sequence yields them, and returns how many there were. It holds only a few in
// memory, and is faster than [Publish] for thousands of events.
//
// An error that the sequence yields ends the copy and is returned; so does an event that cannot be stored, with an *EventError. Nothing is
// stored then, and the transaction, if there is one, must be rolled back. The sequence runs on the caller's goroutine, and a panic in
// it reaches the caller. It is as safe for concurrent use as db is.
func PublishFrom(ctx context.Context, db Copier, events iter.Seq2[Event, error]) (int64, error) {
	return Outbox{}.PublishFrom(ctx, db, events)
}

// PublishFrom is like the function [PublishFrom], for this outbox.
func (o Outbox) PublishFrom(ctx context.Context, db Copier, events iter.Seq2[Event, error]) (int64, error) {
	var fine bool // a copy cannot have a condition
	if err := db.QueryRow(ctx, "select "+takesUTF8).Scan(&fine); err != nil {
		return 0, fmt.Errorf("publish: %w", err)
	}
	if !fine {
		return 0, fmt.Errorf("publish: %w", errEncoding)
	}
	c := &copying{rows: make(chan [][]any), ended: make(chan struct{}), fault: errAborted}
	go func() {
		defer close(c.ended)
		c.n, c.err = db.CopyFrom(ctx, pgx.Identifier{o.String(), "events"}, []string{"topic", "key", "payload", "headers"}, pgx.CopyFromFunc(c.next))
	}()
	defer c.end() // also when the source panics, or ends the goroutine
	c.fault = c.send(events)
	c.end()
	if err := c.fault; err != nil {
		return 0, fmt.Errorf("publish: %w", err)
	}
	if c.err != nil {
		return 0, fmt.Errorf("publish: %w", c.err)
	}
	return c.n, nil
}

// errAborted ends a copy whose source did not come to its end.
var errAborted = errors.New("the source of events did not come to its end")

// A copying is what PublishFrom does: the caller's goroutine goes through the source, and another one copies.
type copying struct {
	rows    chan [][]any // handed over in chunks, until it is closed
	fault   error        // of the source: set before rows is closed
	closed  bool
	current [][]any // what is left of the chunk that is being copied

	ended chan struct{} // closed when the copy has ended, with
	n     int64
	err   error
}

// A chunk is as many rows as are worth waking the other goroutine for.
const chunkRows, chunkBytes = 100, 64 << 10

// send goes through the source, and returns its error, or that of an event that cannot be stored. It ends early if the copy does.
func (c *copying) send(events iter.Seq2[Event, error]) error {
	var (
		chunk        [][]any
		bytes, index int
	)
	flush := func() bool {
		select {
		case c.rows <- chunk:
			chunk, bytes = nil, 0
			return true
		case <-c.ended:
			return false
		}
	}
	for e, err := range events {
		if err == nil {
			err = e.check(index)
		}
		if err != nil {
			return err
		}
		index++
		var key *string
		if e.Key != "" {
			key = &e.Key
		}
		headers := e.Headers
		if headers == nil {
			headers = map[string]string{}
		}
		chunk, bytes = append(chunk, []any{e.Topic, key, e.Payload, headers}), bytes+len(e.Payload)
		if (len(chunk) >= chunkRows || bytes >= chunkBytes) && !flush() {
			return nil
		}
	}
	if len(chunk) > 0 {
		flush()
	}
	return nil
}

// end ends the copy, and waits for it.
func (c *copying) end() {
	if !c.closed {
		c.closed = true
		close(c.rows)
	}
	<-c.ended
}

// next returns the next row for the copy, on its goroutine, or nil at the end.
func (c *copying) next() ([]any, error) {
	if len(c.current) == 0 {
		chunk, more := <-c.rows
		if !more {
			return nil, c.fault
		}
		c.current = chunk
	}
	row := c.current[0]
	c.current = c.current[1:]
	return row, nil
}
