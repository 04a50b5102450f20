// Package apply brings a database up to date. It is apart from package migrations because it links tern, which programs that only
// publish, or only run workers, have no use for.
package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"

	"github.com/signalbox-go/signalbox/migrations"
)

// Up applies the migrations that the database lacks of a set. Any number of processes may call it at the same time: they take turns,
// and all succeed. A database that is newer than this binary is left alone; if it does not serve this binary any more, it is reported as
// a *migrations.VersionError. A schema that is there, and not by these migrations, is left alone, too, and an error.
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
	}
	if err := m.Migrate(ctx); err != nil {
		if taken := new(pgconn.PgError); have == 0 && errors.As(err, &taken) && (taken.Code == pgerrcode.DuplicateSchema || taken.Code == pgerrcode.DuplicateTable) {
			return fmt.Errorf("migrate %s: %w: it is not Signalbox's, or its version in %s was lost: use another name for the outbox, or another database",
				s, err, s.VersionTable())
		}
		return fmt.Errorf("migrate %s: %w", s, err)
	}
	return nil
}
