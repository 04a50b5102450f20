package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/outbox"
)

const (
	// trimChunk is how many expired events are deleted in one transaction.
	trimChunk = 2000
	// trimRest is how long to rest after a chunk, in terms of what it took: fresh events go first.
	trimRest = 3
	// trimEvery is how long to wait between rounds, at most.
	trimEvery = time.Minute
	// thoroughEvery is how often to look for what committed so late that the round for its age had passed.
	thoroughEvery = time.Hour
)

// keepHouse is the sentinel's share of the chores that nobody waits for: it deletes what has expired.
func (s *session) keepHouse(ctx context.Context, log *slog.Logger) error {
	conn, _, err := s.w.connect.open(ctx, outbox.SessionName(s.id, "housekeeping"))
	if err != nil {
		return err
	}
	defer shut(conn)
	retention := s.w.cfg.Retention
	if retention < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	rounds := time.NewTicker(min(trimEvery, max(s.w.cfg.PollInterval, retention/100)))
	defer rounds.Stop()
	var thorough time.Time // when the last round looked from the very beginning
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-rounds.C:
		}
		t := trimmer{conn: conn, keep: retention, thorough: time.Since(thorough) >= thoroughEvery}
		err := t.round(ctx)
		switch {
		case errors.Is(err, outbox.ErrBusy):
			log.Debug("will delete expired events later", "error", err)
		case err != nil:
			return err
		case t.thorough:
			thorough = time.Now()
		}
		if t.deleted > 0 {
			log.Debug("deleted expired events", "deleted", t.deleted)
		}
	}
}

// A trimmer deletes what has expired.
type trimmer struct {
	conn     *pgx.Conn
	keep     time.Duration
	thorough bool
	deleted  int
}

// round deletes until nothing is left that has expired.
func (t *trimmer) round(ctx context.Context) error {
	lanes, err := outbox.ExpiredLanes(ctx, t.conn, t.keep, t.thorough)
	if err != nil {
		return err
	}
	for len(lanes) > 0 {
		var more []int16
		for _, lane := range lanes {
			n, err := t.chunk(ctx, func() (int, error) { return outbox.Trim(ctx, t.conn, lane, t.keep, trimChunk, t.thorough) })
			if err != nil {
				return err
			}
			if n == trimChunk {
				more = append(more, lane)
			}
		}
		lanes = more
	}
	for {
		n, err := t.chunk(ctx, func() (int, error) { return outbox.TrimSkipped(ctx, t.conn, t.keep, trimChunk) })
		if err != nil || n < trimChunk {
			return err
		}
	}
}

// chunk deletes something, and rests in proportion.
func (t *trimmer) chunk(ctx context.Context, del func() (int, error)) (int, error) {
	begun := time.Now()
	n, err := del()
	t.deleted += n
	if err != nil || n == 0 {
		return n, err
	}
	select {
	case <-ctx.Done():
		return n, ctx.Err()
	case <-time.After(trimRest * time.Since(begun)):
		return n, nil
	}
}
