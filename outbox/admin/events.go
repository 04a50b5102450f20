package admin

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/uid"
	"github.com/signalbox-go/signalbox/outbox"
)

// PageBytes ends a page, whatever its limit: it holds what was begun below that many bytes.
const PageBytes = 16 << 20

// ListEvents returns a page of the events that match, oldest first. It looks at no more than 20,000 events, and returns about
// PageBytes at most: where few of those match, the page is short, and Next says where to go on. With a key, only those of its lane are
// looked at. An unfiltered page takes a few milliseconds, however large the log is.
//
// A time range is exact, except for statements that ran for more than a minute: see [outbox.FromTime]. An event that is committed later
// with a lower id than those that were returned is on no later page. It returns ErrInvalidFilter for an invalid filter or option. Safe for concurrent use as far as db is.
func ListEvents(ctx context.Context, db outbox.Database, f EventFilter, o ListOptions) (*Page[outbox.Event], error) {
	return listEvents(ctx, db, f, o, false)
}

// ListNewestEvents is [ListEvents] with the newest events first: its pages go back in the log.
func ListNewestEvents(ctx context.Context, db outbox.Database, f EventFilter, o ListOptions) (*Page[outbox.Event], error) {
	return listEvents(ctx, db, f, o, true)
}

func listEvents(ctx context.Context, db outbox.Database, f EventFilter, o ListOptions, newest bool) (*Page[outbox.Event], error) {
	after, err := o.check()
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	page := &Page[outbox.Event]{Items: []outbox.Event{}}
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		s, err := newScan(ctx, tx, f)
		if err != nil {
			return err
		}
		above, upTo := s.above, s.upTo
		switch {
		case after > 0 && newest:
			upTo = min(upTo, after-1)
		case after > 0:
			above = max(above, after)
		}
		rows, _ := tx.Query(ctx, s.pageSQL(newest), s.args(above, upTo, scanRows, o.Limit, PageBytes)...)
		var (
			place   int
			last    int64
			more    bool
			wanted  bool
			bytes   int
			headers []byte
			tag     uint16
			e       outbox.Event
		)
		_, err = pgx.ForEachRow(rows, []any{&e.ID, &place, &wanted, &e.Topic, &e.Key, &e.Payload, &headers, &e.PublishedAt, &tag}, func() error {
			last, more = e.ID, place == scanRows
			if wanted {
				next := e
				next.Headers = engine.ParseHeaders(headers)
				next.UID = uid.Make(tag, e.ID, e.PublishedAt.UnixMicro())
				page.Items = append(page.Items, next)
				bytes += len(e.Payload) + len(headers)
				more = more || len(page.Items) == o.Limit || bytes >= PageBytes
			}
			e.Payload = nil // its bytes are the page's
			return nil
		})
		if more {
			page.Next = cursorAt(last)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return page, nil
}

// pageSQL returns a query for the first $9 events that are wanted, as far as $10 bytes go, and for the last one that was looked at.
func (s *scan) pageSQL(newest bool) string {
	order := ""
	if newest {
		order = " desc"
	}
	return `
select s.id, s.place, s.wanted, s.topic, coalesce(s.key, ''), s.payload, s.headers, s.published_at, outbox.tag()
from (
    select s.*, sum(octet_length(s.payload::text) + octet_length(s.headers::text)) over (order by s.place rows between unbounded preceding and 1 preceding) as before
    from (
        select s.id, s.place, s.wanted, s.topic, s.key, case when s.wanted then s.payload end as payload, case when s.wanted then s.headers end as headers, s.published_at
        from (` + s.sql(newest) + `) s
        where s.wanted or s.place = $3::integer
        order by s.id` + order + `
        limit $9) s) s
where coalesce(s.before, 0) < $10
order by s.place`
}
