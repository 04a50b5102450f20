// Package doctor looks for what is wrong with a database that has an outbox, and says what to do about it.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/settings"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// Config says from when on something counts as wrong. Its zero value works.
type Config struct {
	// Outbox is the one to look at. Defaults to the default outbox.
	Outbox outbox.Outbox
	// OldTransaction is how long a transaction may be open before it is a finding. Defaults to 5 minutes.
	OldTransaction time.Duration
	// Forgotten is how old the oldest event may be that a subscription has yet to settle. Defaults to admin.HeldTooLong.
	Forgotten time.Duration
}

// A Check is one thing that was looked at.
type Check struct {
	Name string `json:"name"`
	// Findings are what is wrong; none where all is well.
	Findings []Finding `json:"findings"`
	// Skipped says why it was not looked at, or not at all of it; "" otherwise.
	Skipped string `json:"skipped,omitempty"`
}

// A Finding is something that is wrong, and what to do about it.
type Finding struct {
	Problem string `json:"problem"`
	Remedy  string `json:"remedy"`
}

// A Report is what an examination found.
type Report struct {
	Healthy  bool      `json:"healthy"` // no findings
	Checks   []Check   `json:"checks"`
	Versions *Versions `json:"versions,omitempty"` // nil where the schema is not this program's
}

// Findings returns how many there are.
func (r *Report) Findings() (n int) {
	for _, c := range r.Checks {
		n += len(c.Findings)
	}
	return n
}

// A patient is what checks look at.
type patient struct {
	conn    naming.Conn
	name    naming.Name
	connect func(context.Context) (*pgx.Conn, error)
	cfg     Config
	replica bool
	skipped string // what the check that looks right now leaves out, and why
}

// A check returns what it found, or an error when it could not look.
type check struct {
	name string
	// needs says what has to be there: otherwise the check is skipped.
	needs need
	look  func(context.Context, *patient) ([]Finding, error)
}

type need int

const (
	nothing need = iota
	primary      // a database that can be written
	schema       // and the outbox, as this program knows it, is in the database
)

// In the order in which they are reported.
var checks = []check{
	{"server", nothing, checkServer},
	{"connection", primary, checkConnection},
	{"schema", nothing, checkSchema},
	{"columns", schema, checkColumns},
	{"sequence", schema, checkSequence},
	{"trigger", schema, checkTrigger},
	{"cluster", schema, checkCluster},
	{"notifications", schema, checkNotifications},
	{"transactions", nothing, checkTransactions},
	{"vacuum", schema, checkVacuum},
	{"subscriptions", schema, checkSubscriptions},
}

// Examine looks at a database. It changes nothing that stays, but has the outbox remember that ids went back: it takes a lock and listens for a moment on connections of
// its own, which it makes with config. It returns an error when it could not look.
func Examine(ctx context.Context, config *pgx.ConnConfig, cfg Config) (*Report, error) {
	if cfg.OldTransaction == 0 {
		cfg.OldTransaction = 5 * time.Minute
	}
	if cfg.Forgotten == 0 {
		cfg.Forgotten = admin.HeldTooLong
	}
	config = config.Copy()
	// Behind a pooling proxy, a statement that was prepared is another client's the next moment.
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	p := &patient{cfg: cfg, name: naming.Of(cfg.Outbox), connect: func(ctx context.Context) (*pgx.Conn, error) {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return nil, err
		}
		if _, err := settings.Apply(ctx, conn.PgConn(), settings.Essential, settings.Own); err != nil {
			shut(conn)
			return nil, err
		}
		return conn, nil
	}}
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { shut(conn) }()
	p.conn = p.name.Conn(conn)

	r := &Report{Checks: []Check{}}
	known := true
	for _, c := range checks {
		done := Check{Name: c.name, Findings: []Finding{}}
		switch {
		case c.needs == primary && p.replica:
			done.Skipped = "the server is a replica"
		case c.needs == schema && !known:
			done.Skipped = "the schema is not this program's"
		default:
			found, err := c.look(ctx, p)
			if err != nil {
				return nil, fmt.Errorf("check %s: %w", c.name, err)
			}
			for _, f := range found {
				done.Findings = append(done.Findings, Finding{p.name.Advice(f.Problem), p.name.Advice(f.Remedy)})
			}
			done.Skipped, p.skipped = p.skipped, ""
			known = known && (c.name != "schema" || len(found) == 0)
		}
		r.Checks = append(r.Checks, done)
	}
	if known {
		if r.Versions, err = versionsOf(ctx, p); err != nil {
			return nil, err
		}
	}
	r.Healthy = r.Findings() == 0
	return r, nil
}

// shut closes a connection without waiting for a server that may not answer.
func shut(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

const oldestVersion = 15

func checkServer(ctx context.Context, p *patient) ([]Finding, error) {
	var (
		version  int
		encoding string
		found    []Finding
	)
	err := p.conn.QueryRow(ctx, `
		select current_setting('server_version_num')::integer / 10000, pg_is_in_recovery(), current_setting('server_encoding')`).
		Scan(&version, &p.replica, &encoding)
	if version < oldestVersion && err == nil {
		found = append(found, Finding{
			fmt.Sprintf("PostgreSQL is version %d.", version),
			fmt.Sprintf("Upgrade it to %d or newer.", oldestVersion),
		})
	}
	if encoding != "UTF8" && err == nil {
		found = append(found, Finding{
			fmt.Sprintf("The database has the encoding %s: an outbox needs UTF8.", encoding),
			`Create a database with "create database … encoding 'UTF8' template template0", and move there.`,
		})
	}
	if p.replica {
		found = append(found, Finding{
			"The server is a replica, or still recovering: nothing can be published or handled here.",
			"Point DATABASE_URL at the primary; with several hosts in it, add target_session_attrs=primary.",
		})
	}
	return found, err
}

func checkSchema(ctx context.Context, p *patient) ([]Finding, error) {
	err := migrations.For(p.cfg.Outbox).Check(ctx, p.conn)
	var version *migrations.VersionError
	if !errors.As(err, &version) {
		return nil, err
	}
	switch {
	case version.Have == 0:
		return []Finding{{"The outbox's schema is missing in this database.", `Run "outbox migrate", or correct DATABASE_URL.`}}, nil
	case !version.Newer():
		return []Finding{{
			fmt.Sprintf("The outbox's schema is at version %d, and this program needs %d: workers and producers of its version refuse to start.", version.Have, version.Oldest),
			`Run "outbox migrate".`,
		}}, nil
	}
	return []Finding{{
		fmt.Sprintf("The outbox's schema is at version %d, newer than this program's %d, and serves programs from version %d on.", version.Have, version.Newest, version.Serves),
		"Upgrade this program, and the workers and producers that are as old.",
	}}, nil
}
