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

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/outbox"
)

//go:embed outbox/*.sql signals/*.sql
var files embed.FS

// A Set is a sequence of migrations with a version table of its own.
type Set struct {
	folder string
	outbox naming.Name
	oldest int32 // version that this binary works with
}

// The two sets. An application that embeds Signalbox needs Outbox only.
var (
	Outbox  = Set{folder: "outbox", oldest: 2}
	Signals = Set{folder: "signals", oldest: 2}
)

// For returns the set that creates an outbox; for the default one, that is Outbox.
func For(o outbox.Outbox) Set {
	s := Outbox
	s.outbox = naming.Of(o)
	return s
}

// ErrMissing says that a set was never applied to the database.
var ErrMissing = errors.New("schema is missing")

// A VersionError says that a database and this binary do not belong together.
type VersionError struct {
	Set    string // "outbox", the name of another outbox, or "signals"
	Have   int32  // the database's version
	Serves int32  // the oldest version whose binaries the database serves
	Oldest int32  // the oldest version that this binary works with,
	Newest int32  // and its own
	remedy string
}

func (e *VersionError) Error() string {
	needs := fmt.Sprint(e.Oldest)
	if e.Newest > e.Oldest {
		needs = fmt.Sprintf("%d to %d", e.Oldest, e.Newest)
	}
	switch {
	case e.Newer():
		return fmt.Sprintf("%s schema is at version %d, newer than this binary's %d, and serves binaries from version %d on: upgrade the binary",
			e.Set, e.Have, e.Newest, e.Serves)
	case e.Have == 0:
		return fmt.Sprintf("%s schema is missing in this database: %s", e.Set, e.remedy)
	}
	return fmt.Sprintf("%s schema is at version %d, this binary needs %s: %s", e.Set, e.Have, needs, e.remedy)
}

// Newer reports whether it is the database that is newer.
func (e *VersionError) Newer() bool { return e.Have > e.Newest }

// Is makes errors.Is(err, ErrMissing) true where the set was never applied.
func (e *VersionError) Is(target error) bool { return target == ErrMissing && e.Have == 0 }

// String returns the set's name: "outbox", the name of another outbox, or "signals".
func (s Set) String() string {
	if s.outbox != "" {
		return s.outbox.String()
	}
	return s.folder
}

// Files returns the set's migrations, as tern has them: numbered from 1 without a gap. They are those of the default outbox: see Render.
func (s Set) Files() fs.FS {
	sub, err := fs.Sub(files, s.folder)
	if err != nil {
		panic(err) // the name is ours, and valid
	}
	return sub
}

// Render returns what one of the set's migrations is for its outbox.
func (s Set) Render(sql string) string { return s.outbox.Render(sql) }

// VersionTable is the table that has the number of the last migration that was applied. It is not in a schema that the set creates:
// tern makes it first.
func (s Set) VersionTable() string { return "public.signalbox_" + s.String() + "_version" }

// Newest is the version that the set brings a database to.
func (s Set) Newest() (int32, error) {
	found, err := fs.Glob(s.Files(), "[0-9][0-9][0-9]_*.sql")
	if err != nil {
		return 0, fmt.Errorf("find %s migrations: %w", s, err)
	}
	return int32(len(found)), nil
}

// A Querier is a connection, a pool or a transaction of pgx.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Oldest is the oldest version that this binary works with.
func (s Set) Oldest() int32 { return s.oldest }

// Range returns the version that the database has, and the oldest one whose binaries it serves; 0 where the set was never applied.
func (s Set) Range(ctx context.Context, db Querier) (have, serves int32, err error) {
	return s.read(ctx, db)
}

// Version returns the version that the database has, 0 where the set was never applied.
func (s Set) Version(ctx context.Context, db Querier) (int32, error) {
	have, _, err := s.read(ctx, db)
	return have, err
}

// read returns the database's version, and the oldest one whose binaries it serves. Before the first migration, that has no column.
func (s Set) read(ctx context.Context, db Querier) (have, serves int32, err error) {
	err = db.QueryRow(ctx, `select v.version, coalesce((to_jsonb(v) ->> 'serves')::integer, v.version) from `+s.VersionTable()+` v`).Scan(&have, &serves)
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.As(err, &pgErr) && pgErr.Code == pgerrcode.UndefinedTable:
		return 0, 0, nil
	case err != nil:
		return 0, 0, fmt.Errorf("read %s schema version: %w", s, err)
	}
	return have, serves, nil
}

// Check returns a *VersionError unless this binary works with the database's version: it is one of those that the binary knows, or a
// newer one that still serves such binaries. It reads one row, needs no privilege but select, and is safe for concurrent use as far as
// db is.
func (s Set) Check(ctx context.Context, db Querier) error {
	newest, err := s.Newest()
	if err != nil {
		return err
	}
	have, serves, err := s.read(ctx, db)
	if err != nil {
		return err
	}
	if have >= s.oldest && (have <= newest || serves <= newest) {
		return nil
	}
	return &VersionError{
		Set: s.String(), Have: have, Serves: serves, Oldest: s.oldest, Newest: newest,
		remedy: s.outbox.Advice(`run "outbox migrate"`) + ", or call apply.Up of package migrations/apply from Go",
	}
}
