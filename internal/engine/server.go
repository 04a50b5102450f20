package engine

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/signalbox-go/signalbox/internal/naming"
)

// A ServerLock shows that connections reach one server, in one life of it. It is an advisory lock under a random key, which the control
// connection holds: a crash, a restart, and another server all lack it. Start times and timelines would not do: they stay the same
// when a server restarts itself after a crash, and then it hands out ids again.
type ServerLock struct {
	key int64
	pid uint32
}

// NewServerLock takes the lock. The connection has to reach PostgreSQL directly, and holds the lock until it is closed.
func NewServerLock(ctx context.Context, conn naming.Conn) (ServerLock, error) {
	l := ServerLock{key: int64(rand.Uint64()), pid: conn.PgConn().PID()} //nolint:gosec // all bits are of use
	if _, err := conn.Exec(ctx, `select pg_catalog.pg_advisory_lock($1)`, l.key); err != nil {
		return l, fmt.Errorf("show which server it is: %w", err)
	}
	return l, nil
}

// Check returns ErrOtherServer unless the connection's server has the lock. It is for connections that were just opened.
func (l ServerLock) Check(ctx context.Context, conn naming.Conn) error {
	var same bool
	err := conn.QueryRow(ctx, `
		select exists (
		    select from pg_catalog.pg_locks l
		    where l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.pid = $2
		      and (l.classid::bigint << 32 | l.objid::bigint) = $1
		      and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))`,
		l.key, int32(l.pid)).Scan(&same) //nolint:gosec // process ids are positive integers there
	if err != nil {
		return fmt.Errorf("show which server it is: %w", err)
	}
	if !same {
		return ErrOtherServer
	}
	return nil
}
