package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/internal/naming"
)

// A Note is what a member tells those who look at the outbox. Nothing that is read or settled depends on it.
type Note struct {
	Subscription  int32
	SendsTo       string // where its sink sends to; "" if its handler is none
	InFlight      int64  // events that its handler has begun and not answered
	LastFailure   string // in one line; "" for none
	LastFailureAt time.Time
	FullLanes     int // that are not read further: see Member.Full
}

// The worker's row comes first, as for the fence: else this and an eviction could wait for each other.
const noteSQL = `
update outbox.members m
set sends_to = nullif(n.sends_to, ''), in_flight = n.in_flight, last_failure = nullif(n.failure, ''), last_failure_at = case when n.failure <> '' then n.failed_at end,
    full_lanes = n.full_lanes
from unnest($2::integer[], $3::text[], $4::bigint[], $5::text[], $6::timestamptz[], $7::smallint[]) as n (subscription, sends_to, in_flight, failure, failed_at, full_lanes)
where m.worker_id = $1 and m.subscription_id = n.subscription
  and exists (select from outbox.workers w where w.id = $1 for key share)`

// WriteNotes keeps notes in the rows of a worker's members. It is one commit, so that it costs what a heartbeat does.
func WriteNotes(ctx context.Context, conn naming.Conn, worker int64, notes []Note) error {
	var (
		subscriptions = make([]int32, len(notes))
		sendsTo       = make([]string, len(notes))
		inFlight      = make([]int64, len(notes))
		failures      = make([]string, len(notes))
		failedAt      = make([]time.Time, len(notes))
		full          = make([]int16, len(notes))
	)
	for i, n := range notes {
		subscriptions[i], sendsTo[i], inFlight[i], failures[i], failedAt[i] = n.Subscription, n.SendsTo, n.InFlight, n.LastFailure, n.LastFailureAt
		full[i] = int16(n.FullLanes) //nolint:gosec // there are 64
	}
	if _, err := conn.Exec(ctx, noteSQL, worker, subscriptions, sendsTo, inFlight, failures, failedAt, full); err != nil {
		return fmt.Errorf("write notes: %w", err)
	}
	return nil
}
