package engine

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// A Witness shows that connections reach one server, in one life of it. It is an advisory lock under a random key, which the control
// connection holds: a crash, a restart, and another server all lack it. Start times and timelines would not do: they stay the same
// when a server restarts itself after a crash, and then it hands out ids again.
type Witness struct {
	key int64
	pid uint32
}

// NewWitness takes the lock. The connection has to reach PostgreSQL directly, and holds the lock until it is closed.
func NewWitness(ctx context.Context, conn *pgx.Conn) (Witness, error) {
	w := Witness{key: int64(rand.Uint64()), pid: conn.PgConn().PID()} //nolint:gosec // all bits are of use
	if _, err := conn.Exec(ctx, `select pg_catalog.pg_advisory_lock($1)`, w.key); err != nil {
		return w, fmt.Errorf("show which server it is: %w", err)
	}
	return w, nil
}

// Check returns ErrOtherServer unless the connection's server has the lock. It is for connections that were just opened.
func (w Witness) Check(ctx context.Context, conn *pgx.Conn) error {
	var same bool
	err := conn.QueryRow(ctx, `
		select exists (
		    select from pg_catalog.pg_locks l
		    where l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.pid = $2
		      and (l.classid::bigint << 32 | l.objid::bigint) = $1
		      and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))`,
		w.key, int32(w.pid)).Scan(&same) //nolint:gosec // process ids are positive integers there
	if err != nil {
		return fmt.Errorf("show which server it is: %w", err)
	}
	if !same {
		return ErrOtherServer
	}
	return nil
}
