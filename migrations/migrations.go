package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed outbox/*.sql signals/*.sql
var files embed.FS

// A Set is a sequence of migrations with a version table of its own.
type Set struct {
	name         string
	versionTable string // not in a schema that the set creates: tern makes it first
}

// The two sets. An application that embeds Signalbox needs Outbox only.
var (
	Outbox  = Set{name: "outbox", versionTable: "public.signalbox_outbox_version"}
	Signals = Set{name: "signals", versionTable: "public.signalbox_signals_version"}
)

// ErrMissing says that a set was never applied to the database.
var ErrMissing = errors.New("schema is missing")

// A VersionError says that a database and this binary do not belong together.
type VersionError struct {
	Set  string // "outbox" or "signals"
	Have int32  // the database's version
	Want int32  // the binary's version
}

const howToMigrate = `run "outbox migrate", or call apply.Up of package migrations/apply from Go`

func (e *VersionError) Error() string {
	if e.Have > e.Want {
		return fmt.Sprintf("%s schema is at version %d, newer than this binary's %d: upgrade the binary", e.Set, e.Have, e.Want)
	}
	if e.Have == 0 {
		return fmt.Sprintf("%s schema is missing in this database: %s", e.Set, howToMigrate)
	}
	return fmt.Sprintf("%s schema is at version %d, this binary needs %d: %s", e.Set, e.Have, e.Want, howToMigrate)
}

// Is makes errors.Is(err, ErrMissing) true where the set was never applied.
func (e *VersionError) Is(target error) bool { return target == ErrMissing && e.Have == 0 }

// String returns the set's name.
func (s Set) String() string { return s.name }

// Files returns the set's migrations, as tern has them: numbered from 1 without a gap.
func (s Set) Files() fs.FS {
	sub, err := fs.Sub(files, s.name)
	if err != nil {
		panic(err) // the name is ours, and valid
	}
	return sub
}

// VersionTable is the table that has the number of the last migration that was applied.
func (s Set) VersionTable() string { return s.versionTable }

// A Querier is a connection, a pool or a transaction of pgx.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Check returns a *VersionError unless the database has exactly the version this binary was built for.
// It reads one row, needs no privilege but select, and is safe for concurrent use as far as db is.
func (s Set) Check(ctx context.Context, db Querier) error {
	want, err := s.version()
	if err != nil {
		return err
	}
	var have int32
	err = db.QueryRow(ctx, "select version from "+s.versionTable).Scan(&have)
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.As(err, &pgErr) && pgErr.Code == pgerrcode.UndefinedTable:
		have = 0
	case err != nil:
		return fmt.Errorf("read %s schema version: %w", s, err)
	}
	if have != want {
		return &VersionError{Set: s.name, Have: have, Want: want}
	}
	return nil
}

// version is the number of the set's last migration.
func (s Set) version() (int32, error) {
	found, err := fs.Glob(s.Files(), "[0-9][0-9][0-9]_*.sql")
	if err != nil {
		return 0, fmt.Errorf("find %s migrations: %w", s, err)
	}
	return int32(len(found)), nil
}
