package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
)

// beat is the control loop: it passes on what the doorbell says, tells the database once a PollInterval that the worker
// lives, and tells the runners what the database answers. In the sentinel, it also looks for dead workers.
//
// It ends when rest is cancelled. Statements get ctx: one that is cut short would take the connection with it.
func (s *session) beat(rest, ctx context.Context, log *slog.Logger) error {
	var (
		goroutines conc.WaitGroup
		sentinel   bool
		missing    = map[int64]time.Time{} // workers whose lock is gone, and since when
		next       = time.Now()
		looked     = time.Now() // at the log as a whole: before it joined
	)
	rest, cancel := context.WithCancel(rest)
	defer goroutines.Wait()
	defer cancel() // the sentinel ends with the loop, whatever ended that
	for beats := 0; ; beats++ {
		if err := s.listen(rest, next); err != nil || rest.Err() != nil {
			return err
		}
		interval := s.w.cfg.PollInterval
		if sentinel {
			interval /= 2 // takeovers should not take long
		}
		next = time.Now().Add(interval - interval/20 + rand.N(interval/5)) // workers that start together spread out

		// The sentinel beats at one half of its ticks, and looks for the dead at the others; at all of them while a worker is
		// missing, and at once when it is new.
		look := sentinel && (beats%2 == 1 || len(missing) > 0)
		if !sentinel || beats%2 == 0 {
			elected, err := s.pulse(ctx, s.direct && !sentinel)
			if err != nil {
				return err
			}
			if elected {
				sentinel, look = true, true
				next = time.Now().Add(interval / 2)
				log.Info("became the sentinel")
				goroutines.Go(func() { supervise(rest, log.With("part", "doorbell"), s.answerDoorbell) })
				goroutines.Go(func() { supervise(rest, log.With("part", "housekeeping"), s.housekeeping) })
			}
		}
		if time.Since(looked) >= logEvery {
			if err := s.checkLog(ctx); err != nil {
				return err
			}
			looked = time.Now()
		}
		if s.direct {
			s.shared.waiting.tidy(waitIdle)
			s.pages.Tidy()
		}
		var err error
		if look {
			missing, err = s.evictDead(ctx, log, missing)
		} else if !sentinel && beats%5 == 4 {
			err = s.within(ctx, func(ctx context.Context) error { return engine.EndFrozenSentinel(ctx, s.control, s.w.cfg.Lease) })
		}
		if err != nil {
			return err
		}
	}
}

// within bounds a statement that is not expected to wait: a connection that is cut off must not hang the loop.
func (s *session) within(ctx context.Context, statement func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return statement(ctx)
}

// listen passes rings on until the given time, or until lanes have changed hands.
func (s *session) listen(ctx context.Context, until time.Time) error {
	timeout, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		if !s.direct {
			<-timeout.Done()
			return nil
		}
		n, err := s.control.WaitForNotification(timeout)
		switch {
		case n != nil: // at the last moment, maybe
		case timeout.Err() != nil:
			return nil
		default:
			return fmt.Errorf("listen: %w", err)
		}
		if n.Channel != s.w.cfg.Outbox.Channel() || n.PID == s.ringer.Load() {
			continue
		}
		ring := engine.ParseRing(n.Payload)
		if n.Payload == "" {
			s.trigger.Add(1)
			select {
			case s.rang <- struct{}{}:
			default:
			}
		}
		s.ring(ctx, ring)
		if ring.Freed {
			return nil
		}
	}
}

// ring wakes the runners that own one of the lanes.
func (s *session) ring(ctx context.Context, ring engine.Ring) {
	if ring.Lanes == 0 && !ring.Deliveries {
		return
	}
	s.tellWokenUp(ctx)
	if s.direct && ring.Lanes != 0 {
		s.reader.ring(ring.Lanes)
	}
	for _, r := range s.runners {
		if !ring.Deliveries && r.feed.relies() {
			continue // the reader has been told, and wakes it if there is something for it
		}
		r.wake.add(func(w *wakeup) {
			w.ring |= ring.Lanes
			w.reload = w.reload || ring.Deliveries
		})
	}
}

// pulse beats, and tells the runners.
func (s *session) pulse(ctx context.Context, candidate bool) (elected bool, err error) {
	if err := s.w.connect.overdue(); err != nil {
		return false, err
	}
	var p engine.Pulse
	err = s.within(ctx, func(ctx context.Context) (err error) {
		p, err = engine.Beat(ctx, s.control, s.id, candidate)
		return err
	})
	if err != nil {
		return false, err
	}
	if !p.Alive {
		return false, engine.ErrEvicted
	}
	for i, r := range s.runners {
		others := p.Topics[s.subs[i].ID]
		if others.Owner && others.Reads != nil {
			return false, &outbox.TopicsError{Name: s.subs[i].Name, Have: others.Have, Want: others.Reads}
		}
		share := p.Shares[s.subs[i].ID]
		r.wake.add(func(w *wakeup) {
			w.pulse, w.share, w.probe, w.topics = &p, share, p.Probes[s.subs[i].ID], others.Have
			w.reload = w.reload || p.Stuck // what has become of deliveries is not told
		})
	}
	if p.Changing {
		select {
		case s.changing <- struct{}{}:
		default:
		}
	}
	s.workers.Store(int64(p.Workers))
	if s.stuck.Swap(p.Stuck) != p.Stuck && p.Stuck {
		s.w.cfg.Logger.Warn("the server's queue of notifications is half full, so that none are sent: a session that listens does not end its transaction; workers poll")
	}
	s.w.serving.Store(true)
	return p.Sentinel, s.writeNotes(ctx)
}

// logEvery is how often a worker looks at the log as a whole. Its reads notice what concerns their lanes at once, but it may have
// none.
const logEvery = 3 * time.Second

// checkLog looks whether the schema still serves this binary, and whether something has become of the log for which the worker would lose
// events.
func (s *session) checkLog(ctx context.Context) error {
	return s.within(ctx, func(ctx context.Context) error {
		if err := migrations.For(s.w.cfg.Outbox).Check(ctx, s.control); err != nil {
			return err
		}
		return engine.CheckLog(ctx, s.control)
	})
}

// evictDead evicts workers whose lease has expired, or whose lock has been gone for a while: one that is shutting down, or
// restarts its session, removes itself in the meantime.
func (s *session) evictDead(ctx context.Context, log *slog.Logger, missing map[int64]time.Time) (map[int64]time.Time, error) {
	var vanished, expired []int64
	err := s.within(ctx, func(ctx context.Context) (err error) {
		vanished, expired, err = engine.FindDead(ctx, s.control)
		return err
	})
	if err != nil {
		return nil, err
	}
	frozen := slices.Clone(expired)
	still := map[int64]time.Time{}
	for _, id := range vanished {
		since, known := missing[id]
		if !known {
			since = time.Now()
		}
		if still[id] = since; time.Since(since) > missingFor {
			expired = append(expired, id)
		}
	}
	for _, id := range expired {
		if id == s.id {
			continue // frozen for longer than the lease, and awake again: the next beat tells
		}
		if err := engine.EndSessions(ctx, s.control, id); err != nil {
			return nil, err
		}
		why := diedReason
		if slices.Contains(frozen, id) {
			why = frozenReason
		}
		evicted, err := engine.Evict(ctx, s.control, id, why)
		switch {
		case errors.Is(err, engine.ErrBusy):
			log.Warn("a dead worker is settling something, will evict it later", "evicted_id", id)
		case err != nil:
			return nil, err
		case evicted:
			log.Warn("evicted a dead worker: its lanes are free", "evicted_id", id)
			s.tellEvicted(ctx, id)
		}
	}
	return still, nil
}

// What is kept with an attempt that did not end. A worker without its lock may live, and have lost its connection: it says so itself,
// unless the sentinel is faster.
const (
	diedReason   = "its worker died or lost its connection"
	frozenReason = "its worker was not seen for its lease: it was frozen or cut off"
)

// missingFor is how long a worker's lock has to be gone: less than the time between two looks.
const missingFor = 400 * time.Millisecond
