package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// A notebook has what a runner tells those who look at the outbox.
type notebook struct {
	inFlight atomic.Int64 // events that a handler of HandleAsync has begun and not answered
	failed   atomic.Pointer[lastFailure]
	full     atomic.Int64 // lanes that are not read further
	written  engine.Note  // as the database has it
}

// A lastFailure is why something did not succeed.
type lastFailure struct {
	text string
	at   time.Time
}

// note notes a failure. Safe for concurrent use.
func (n *notebook) note(text string) { n.failed.Store(&lastFailure{firstLine(text), time.Now()}) }

// writeNotes brings what has changed since the last heartbeat to the database.
func (s *session) writeNotes(ctx context.Context) error {
	var changed []*runner
	var notes []engine.Note
	for i, r := range s.runners {
		n := engine.Note{Subscription: s.subs[i].ID, SendsTo: r.sub.SendsTo, InFlight: r.notes.inFlight.Load(), FullLanes: int(r.notes.full.Load())}
		if f := r.notes.failed.Load(); f != nil {
			n.LastFailure, n.LastFailureAt = f.text, f.at
		}
		before := r.notes.written
		if before.Subscription = n.Subscription; n != before {
			changed, notes = append(changed, r), append(notes, n)
		}
	}
	if len(notes) == 0 {
		return nil
	}
	err := s.within(ctx, func(ctx context.Context) error { return engine.WriteNotes(ctx, s.control, s.id, notes) })
	for i, r := range changed {
		if err == nil {
			r.notes.written = notes[i]
		}
	}
	return err
}
