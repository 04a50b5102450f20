// Package apply brings a database up to date. It is apart from package migrations because it links tern, which programs that only
// publish, or only run workers, have no use for.
package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"

	"github.com/signalbox-go/signalbox/migrations"
)

// Up applies the migrations that the database lacks of a set. Any number of processes may call it at the same time: they take turns,
// and all succeed. A database that is newer than this binary is left alone; if it does not serve this binary any more, it is reported as
// a *migrations.VersionError. A schema that is there, and not by these migrations, is left alone, too, and an error.
// While others use the outbox, it never keeps them waiting for more than a second at a time: it is refused if open transactions do not let it
// have a table within about 20 seconds.
//
// The connection must not be used for anything else meanwhile, and must reach PostgreSQL directly or through a session pool.
func Up(ctx context.Context, conn *pgx.Conn, s migrations.Set) error {
	newest, err := s.Newest()
	if err != nil {
		return err
	}
	have, err := s.Version(ctx, conn)
	switch {
	case err != nil:
		return err
	case have == newest:
		return nil
	case have > newest:
		return s.Check(ctx, conn)
	}
	m, err := migrate.NewMigrator(ctx, conn, s.VersionTable())
	if err != nil {
		return fmt.Errorf("migrate %s: %w", s, err)
	}
	if err := m.LoadMigrations(s.Files()); err != nil {
		return fmt.Errorf("migrate %s: %w", s, err)
	}
	for _, one := range m.Migrations {
		one.UpSQL, one.DownSQL = s.Render(one.UpSQL), s.Render(one.DownSQL)
		if have > 0 { // it may be in use
			one.UpSQL = "set local lock_timeout = '" + lockPatience + "';\n" + one.UpSQL
		}
	}
	if err := patiently(ctx, conn, m); err != nil {
		if taken := new(pgconn.PgError); have == 0 && errors.As(err, &taken) && (taken.Code == pgerrcode.DuplicateSchema || taken.Code == pgerrcode.DuplicateTable) {
			return fmt.Errorf("migrate %s: %w: it is not Signalbox's, or its version in %s was lost: use another name for the outbox, or another database",
				s, err, s.VersionTable())
		}
		return fmt.Errorf("migrate %s: %w", s, err)
	}
	return nil
}

// A migration that waits for the lock of a table keeps all others from using it meanwhile, as long as it takes a transaction to end that
// has used it. So it waits for lockPatience, and gives the others room before it is tried again, lockTries times in all.
const (
	lockPatience = "1s"
	lockPause    = time.Second
	lockTries    = 10
)

// patiently migrates a database that is in use.
func patiently(ctx context.Context, conn *pgx.Conn, m *migrate.Migrator) error {
	for try := 1; ; try++ {
		err := m.Migrate(ctx)
		refused := new(pgconn.PgError)
		if !errors.As(err, &refused) || refused.Code != pgerrcode.LockNotAvailable && refused.Code != pgerrcode.DeadlockDetected {
			return err
		}
		if try == lockTries {
			return fmt.Errorf("%w: open transactions have locked its tables: %s: commit them or roll them back, and run it again", err, openTransactions(ctx, conn))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPause):
		}
	}
}

// openTransactions names those that have been open for longer than they were waited for.
func openTransactions(ctx context.Context, conn *pgx.Conn) string {
	var who string
	err := conn.QueryRow(ctx, `
		select coalesce(string_agg(distinct coalesce('pid ' || l.pid, 'a prepared one'), ', '), 'none any more')
		from pg_catalog.pg_locks l
		left join pg_catalog.pg_stat_activity a on a.pid = l.pid
		where l.locktype = 'relation' and l.granted and l.pid is distinct from pg_catalog.pg_backend_pid()
		  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
		  and coalesce(a.xact_start < pg_catalog.clock_timestamp() - interval '5 seconds', true)`).Scan(&who)
	if err != nil {
		return "not to be found out: " + err.Error()
	}
	return who
}
