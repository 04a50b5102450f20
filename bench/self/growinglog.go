package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// A growingLog is grown from cell to cell.
type growingLog struct {
	env     *stage.Env
	scale   scale
	d       *stage.Database
	begun   time.Time // when its first event was published
	n       int64     // events that it was given
	deleted int64     // and of which it has none any more
}

const (
	growBy   = 1_000_000             // events in a statement
	growSpan = 6 * 24 * time.Hour    // all of the log, with which workers have nothing to delete yet
	growAge  = 10 * time.Millisecond // from one event to the next
)

const growSQL = `
insert into outbox.events (topic, key, payload, published_at)
select 'bench.old', 'key-' || n, json_build_object('n', n, 'note', repeat('x', 120)), $3::timestamptz + n * $4::interval
from generate_series($1::bigint, $2::bigint) as n`

func (l *growingLog) grow(ctx context.Context, n int64) error {
	if l.d == nil {
		d, err := l.env.Open(ctx, l.env.Systems[0])
		if err != nil {
			return err
		}
		l.d, l.begun = d, time.Now().Add(-growSpan)
		l.env.AtEnd(d.Close)
	}
	for l.n < n {
		to := min(n, l.n+growBy)
		if _, err := l.d.Pool.Exec(ctx, growSQL, l.n+1, to, l.begun, growAge); err != nil {
			return fmt.Errorf("grow the log: %w", err)
		}
		l.n = to
	}
	return l.d.Calm(ctx)
}

func (l *growingLog) measure(ctx context.Context, m *stage.Measurement, n int64) error {
	if err := l.grow(ctx, n); err != nil {
		return err
	}
	var bytes float64
	if err := l.d.Pool.QueryRow(ctx, `select pg_database_size(current_database())`).Scan(&bytes); err != nil {
		return err
	}
	m.Set("gib", bytes/(1<<30))
	if err := l.serve(ctx, m); err != nil {
		return err
	}
	old := drained(l.scale, 1)
	l.deleted += old
	return expire(ctx, m, l.d, time.Since(l.begun.Add(time.Duration(l.deleted)*growAge)), old)
}

// serve measures what concerns a subscription at the log's end.
func (l *growingLog) serve(ctx context.Context, m *stage.Measurement) (err error) {
	end, err := begin(ctx, l.d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	ours := l.env.Systems[0]
	service := stage.NewService(l.d, ours, 8, growthRate)
	stop, err := work(ctx, l.d, 1, service.Handle)
	if err != nil {
		return err
	}
	err = measureTraffic(ctx, l.env, m, service)
	if err == nil {
		err = l.look(ctx, m)
	}
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	backlog := drained(l.scale, 1)
	if err := l.env.Fill(ctx, l.d, backlog, stage.Batch, ours.Publish); err != nil {
		return err
	}
	return l.env.Drained(ctx, m, l.d, ours, 1, stage.Work{}, backlog)
}

// look times what people look at.
func (l *growingLog) look(ctx context.Context, m *stage.Measurement) error {
	pages, err := serve(freshDashboards(l.d))
	if err != nil {
		return err
	}
	defer pages.close()
	for key, call := range map[string]func() error{
		"status":   func() error { _, err := admin.GetStatusUpTo(ctx, l.d.Pool, 10_001); return err },
		"overview": func() error { _, err := fetch(ctx, pages.url); return err },
		"page":     func() error { _, err := fetch(ctx, pages.url+"events"); return err },
	} {
		took, _, err := timed(call)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		m.Set(key, took)
	}
	return nil
}
