package engine

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/topic"
)

// Lanes is how many slices the log has. Every subscription has a cursor and an owner for each.
const Lanes = 64

// A Member is a worker's part in a subscription: the lanes that it owns, and how far it has read them. It reads windows
// of events and settles them.
//
// Its statements go over its Connections. When the one breaks that it reads over, the server may have lost history, so nothing that was
// read may be settled: leave, and join again. So it is when one breaks in the middle of a transaction, which may have happened. A
// Member is not safe for concurrent use.
type Member struct {
	// Full lists lanes that are not read further for now, because they have too many unfinished deliveries.
	Full map[int16]bool

	// Suspect is set when the last owner of a claimed lane died. The next window, which may kill this one too, must be settled
	// with all its events as Running before their handlers start; that clears it.
	Suspect bool

	conns        Connections
	outbox       naming.Name
	worker       int64
	subscription int32
	topics       topic.Patterns // none while it leaves lanes to others: see Rejoin
	floor        int64          // events up to here have transaction ids of another cluster
	tag          uint16         // of the outbox, for UIDs

	owned      int            // how many lanes
	cursors    []cursor       // as of the last read
	seen       *snapshot      // of that, if it found the end of each lane; else nil
	caughtUp   bool           // whether the last read was of lanes that catch up with late events
	hot        map[int16]bool // lanes that the last read did not see the end of
	first      int16          // the lane that the next read begins with: a window's bytes ended before it
	eventBytes int            // size of an event, lately
	most       int            // bytes of a window
	left       [Lanes]bool    // lanes that this read leaves to the next one: their events are too large for one window
	long       bool           // whether the last read came to an event that is too long to be sent with others
	lastCount  int            // events of the last window
	like       []string       // LIKE patterns for the database; nil if all topics match
	filter     []string       // the same; nil while most events match anyway
	settled    settledState
	pages      *Pages // what is shared with other members; nil if it reads for itself
	window     int    // events that a window may have, if others read it
}

// NewMember returns the part of a worker that has joined in one of the subscriptions that it joined for. It owns
// nothing until it claims. The connection is the member's alone from here on.
func NewMember(conn naming.Conn, worker int64, s Subscription) *Member {
	return NewMemberOver(alone{conn}, naming.For(conn), worker, s)
}

// NewMemberOver is NewMember for connections to an outbox that are shared.
func NewMemberOver(conns Connections, outbox naming.Name, worker int64, s Subscription) *Member {
	return &Member{
		Full: map[int16]bool{}, conns: conns, outbox: outbox, worker: worker, subscription: s.ID, topics: s.Topics, floor: s.floor, tag: s.tag,
		most: windowBytes, hot: map[int16]bool{}, like: topic.Patterns(s.Topics).Like(), filter: topic.Patterns(s.Topics).Like(),
	}
}

// Limit bounds how many bytes a window may have, and a claim of deliveries: about, since it always has one event. Beyond the default, 16 MB,
// it bounds nothing.
func (m *Member) Limit(bytes int) { m.most = max(1, min(bytes, windowBytes)) }

// Lanes returns the lanes that the member owns.
func (m *Member) Lanes() []int16 {
	lanes := make([]int16, 0, Lanes)
	for _, c := range m.cursors {
		lanes = append(lanes, c.lanes...)
	}
	return lanes
}

// Owns reports whether the member owns one of the lanes that have their bits set.
func (m *Member) Owns(lanes uint64) bool {
	for _, c := range m.cursors {
		for _, lane := range c.lanes {
			if lanes&(1<<lane) != 0 {
				return true
			}
		}
	}
	return false
}

func lanesOf(cursors []cursor) int {
	n := 0
	for _, c := range cursors {
		n += len(c.lanes)
	}
	return n
}

// Unread reports whether a read could find anything, given what a heartbeat saw.
func (m *Member) Unread(p Pulse) bool { return unread(m.cursors, p.snapshot, p.head, m.Full) }

// fenceSQL locks the rows of the worker and of its members in some subscriptions until the transaction ends, against an eviction; without
// them, the worker has been evicted, and the statement fails.
const fenceSQL = `select outbox.fence($1, $2)`

// evictedCode is the SQLSTATE that outbox.fence raises.
const evictedCode = "OB001"

// evicted turns what outbox.fence raises into ErrEvicted.
func evicted(err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == evictedCode {
		return fmt.Errorf("%w: %s", ErrEvicted, pgErr.Message)
	}
	return err
}
