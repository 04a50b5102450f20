package admin

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Page chooses which part of the events that match comes next.
type Page struct {
	After  int64 // the Next of the page before; 0 for the first one
	Newest bool  // newest events first. Defaults to oldest first
	Limit  int   // of events, from 1 to 1000. Defaults to 100
}

// An EventPage is a part of the events that match a filter.
type EventPage struct {
	Events []outbox.Event `json:"events"`
	// Next is the After of the page that follows.
	Next int64 `json:"next"`
	// Done is true when there is none. A page may be short, or empty, and not be the last: see [Events].
	Done bool `json:"done"`
}

// The defaults of a Page.
const (
	pageLimit    = 100
	maxPageLimit = 1000
)

// PageBytes ends a page, or a list of deliveries, whatever its limit: it holds what was begun below that many bytes.
const PageBytes = 16 << 20

// Events returns a page of the events that match, by id. It looks at no more than 20,000 events, and returns about PageBytes at most:
// so a page may be short, and Next says where to go on. With a key, only those of its lane are looked at. An unfiltered page takes a
// few milliseconds, however large the log is.
//
// A time range is exact, except for statements that ran for more than a minute: see [FromTime]. An event that is committed later
// with a lower id than those that were returned is on no later page. The error for a filter or page that is not possible is
// ErrInvalidFilter. Safe for concurrent use as far as db is.
func Events(ctx context.Context, db outbox.Beginner, f EventFilter, p Page) (*EventPage, error) {
	if p.Limit == 0 {
		p.Limit = pageLimit
	}
	if p.Limit < 0 || p.Limit > maxPageLimit {
		return nil, fmt.Errorf("%w: a page of %d events, from 1 to %d are possible", ErrInvalidFilter, p.Limit, maxPageLimit)
	}
	page := &EventPage{Events: []outbox.Event{}, Next: p.After, Done: true}
	err := engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		s, err := newScan(ctx, tx, f)
		if err != nil {
			return err
		}
		above, upTo := s.above, s.upTo
		switch {
		case p.After > 0 && p.Newest:
			upTo = min(upTo, p.After-1)
		case p.After > 0:
			above = max(above, p.After)
		}
		rows, _ := tx.Query(ctx, s.pageSQL(p.Newest), s.args(above, upTo, scanRows, p.Limit, PageBytes)...)
		var (
			place   int
			wanted  bool
			bytes   int
			headers []byte
			e       outbox.Event
		)
		_, err = pgx.ForEachRow(rows, []any{&e.ID, &place, &wanted, &e.Topic, &e.Key, &e.Payload, &headers, &e.PublishedAt}, func() error {
			page.Next, page.Done = e.ID, place < scanRows
			if wanted {
				next := e
				next.Headers = engine.ParseHeaders(headers)
				page.Events = append(page.Events, next)
				bytes += len(e.Payload) + len(headers)
				page.Done = page.Done && len(page.Events) < p.Limit && bytes < PageBytes
			}
			e.Payload = nil // its bytes are the page's
			return nil
		})
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
select s.id, s.place, s.wanted, s.topic, coalesce(s.key, ''), s.payload, s.headers, s.published_at
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
