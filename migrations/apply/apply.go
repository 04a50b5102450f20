// Package apply brings a database up to date. It is apart from package migrations because it links tern, which programs that only
// publish, or only run workers, have no use for.
package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"github.com/signalbox-go/signalbox/migrations"
)

// Up applies the migrations that the database lacks of a set. Any number of processes may call it at the same time: they take turns,
// and all succeed. A database that is newer than this binary is left alone and reported as a *migrations.VersionError.
//
// The connection must not be used for anything else meanwhile, and must reach PostgreSQL directly or through a session pool.
func Up(ctx context.Context, conn *pgx.Conn, s migrations.Set) error {
	var newer *migrations.VersionError
	if err := s.Check(ctx, conn); err == nil {
		return nil
	} else if errors.As(err, &newer) && newer.Have > newer.Want {
		return err
	}
	m, err := migrate.NewMigrator(ctx, conn, s.VersionTable())
	if err != nil {
		return fmt.Errorf("migrate %s: %w", s, err)
	}
	if err := m.LoadMigrations(s.Files()); err != nil {
		return fmt.Errorf("migrate %s: %w", s, err)
	}
	if err := m.Migrate(ctx); err != nil {
		return fmt.Errorf("migrate %s: %w", s, err)
	}
	return nil
}
