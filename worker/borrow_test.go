package worker

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// TestBorrowAfterRefusal has the pool refused a connection, and get one back meanwhile: that one is borrowed, and not forgotten.
func TestBorrowAfterRefusal(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	idle := &borrowed{pg: db.Conn(t), guard: &txGuard{}, user: "s"}
	refused := 0
	var p *txPool
	p = newTxPool(&connector{config: db.Pool.Config()}, 1, func(context.Context, *txGuard) (*pgx.Conn, error) {
		if refused++; refused == 1 {
			p.put(idle)
		}
		return nil, errors.New("too many clients")
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, giveBack, err := p.borrow(ctx, slog.New(slog.DiscardHandler), "s")
	if err != nil || l != idle || refused != 1 {
		t.Fatalf("borrowed %v after %d refusals, %v; want what was given back", l, refused, err)
	}
	giveBack()
	if len(p.idle) != 1 {
		t.Errorf("%d connections are idle", len(p.idle))
	}
}
