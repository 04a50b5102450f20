package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/naming"
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

// housekeeping is part of the sentinel's work: it deletes what has expired, and completes rewinds and changes of topics whose callers are gone.
func (s *session) housekeeping(ctx context.Context, log *slog.Logger, works func()) error {
	h := housekeeper{pool: s.shared.waiting, keep: s.w.cfg.Retention, changing: s.changing}
	var rounds <-chan time.Time
	if h.keep >= 0 {
		ticker := time.NewTicker(min(trimEvery, max(s.w.cfg.PollInterval, h.keep/100)))
		defer ticker.Stop()
		rounds = ticker.C
	}
	for {
		if err := h.rest(ctx, rounds); err != nil {
			return err
		}
		h.deleted = 0
		switch err := h.trim(ctx); {
		case err == nil:
			works()
		case errors.Is(err, engine.ErrBusy):
			log.Debug("will delete expired events later", "error", err)
		case forbidden(err):
			log.Warn("may not delete expired events, so the log grows: grant that to the worker, or have it keep everything", "error", err)
			rounds = nil
		case err != nil:
			return err
		}
		if h.deleted > 0 {
			log.Debug("deleted expired events", "deleted", h.deleted)
		}
	}
}

// forbidden reports whether the worker's role lacks a privilege: it can do without chores.
func forbidden(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == pgerrcode.InsufficientPrivilege
}

// A housekeeper does the chores, one at a time.
type housekeeper struct {
	pool     *waitPool
	keep     time.Duration
	changing <-chan struct{} // has a token when a subscription is to go back, or to have other topics
	searched time.Time       // when a round last looked from the very beginning
	deleted  int
}

// rest waits, but for rewinds and changes of topics.
func (h *housekeeper) rest(ctx context.Context, until <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-until:
			return nil
		case <-h.changing:
			err := h.pool.lend(ctx, func(conn naming.Conn) error { return engine.FinishChanges(ctx, conn) })
			if err != nil && !forbidden(err) { // who asked completes it
				return err
			}
		}
	}
}

// trim deletes until nothing is left that has expired.
func (h *housekeeper) trim(ctx context.Context) error {
	begun := time.Now()
	thorough := begun.Sub(h.searched) >= thoroughEvery
	var lanes []int16
	err := h.pool.lend(ctx, func(conn naming.Conn) (err error) {
		lanes, err = engine.ExpiredLanes(ctx, conn, h.keep, thorough)
		return err
	})
	if err != nil {
		return err
	}
	for len(lanes) > 0 {
		var more []int16
		for _, lane := range lanes {
			n, err := h.chunk(ctx, func(conn naming.Conn) (int, error) {
				return engine.Trim(ctx, conn, lane, h.keep, trimChunk, thorough)
			})
			if err != nil {
				return err
			}
			if n == trimChunk {
				more = append(more, lane)
			}
		}
		lanes = more
	}
	for n := trimChunk; n == trimChunk; {
		n, err = h.chunk(ctx, func(conn naming.Conn) (int, error) { return engine.TrimSkipped(ctx, conn, h.keep, trimChunk) })
		if err != nil {
			return err
		}
	}
	if thorough {
		h.searched = begun
	}
	return nil
}

// chunk deletes something, and rests in proportion.
func (h *housekeeper) chunk(ctx context.Context, del func(naming.Conn) (int, error)) (n int, err error) {
	begun := time.Now()
	err = h.pool.lend(ctx, func(conn naming.Conn) error {
		n, err = del(conn)
		return err
	})
	h.deleted += n
	if err != nil || n == 0 {
		return n, err
	}
	return n, h.rest(ctx, time.After(trimRest*time.Since(begun)))
}
