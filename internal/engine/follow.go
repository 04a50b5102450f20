package engine

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// Follow returns a member that owns every lane from a position on, of no worker and no subscription: it only reads, and settles
// nothing. It reads over the transaction's connection, once that has ended. The transaction must not have written before.
func Follow(ctx context.Context, tx pgx.Tx, topics topic.Patterns, start outbox.Position) (*Member, error) {
	s := Subscription{Topics: topics}
	after, pending, err := startCursor(ctx, tx, start)
	if err != nil {
		return nil, err
	}
	all := cursor{pending: pending}
	for lane := range int16(Lanes) {
		all.lanes, all.after = append(all.lanes, lane), append(all.after, after)
	}
	if err := tx.QueryRow(ctx, `select max(c.floor), outbox.tag() from outbox.cluster c`).Scan(&s.floor, &s.tag); err != nil {
		return nil, err
	}
	m := NewMember(naming.For(tx).Conn(tx.Conn()), 0, s)
	m.cursors = []cursor{all}
	return m, nil
}
