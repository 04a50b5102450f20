package stage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/bench/systems"
)

// Env is a run's configuration, and what its cells share.
type Env struct {
	Config
	templates map[string]bool // names of databases that have a system's schema
	count     int             // of databases made
	outbox    string          // where the command is, once it is built
	ends      []func()        // what to do when the run ends, the last one first
}

// AtEnd has something done when the run ends.
func (e *Env) AtEnd(do func()) { e.ends = append(e.ends, do) }

func (e *Env) end() {
	for _, do := range slices.Backward(e.ends) {
		do()
	}
}

// Connections of a pool: those of 32 publishers, and some for workers that take theirs from it.
const poolSize = 48

// A Database is there for one cell.
type Database struct {
	URL  string
	Pool *pgxpool.Pool
	Name string
	env  *Env
}

// The rows that a service writes beside its events, the plain row that stands for an event in comparisons, and what
// transactional handlers write.
const domainSchema = `
create table public.orders (id bigint primary key generated always as identity, name text not null, total integer not null);
create table public.plain (
    id         bigint      primary key generated always as identity,
    topic      text        not null,
    key        text,
    payload    json        not null,
    created_at timestamptz not null default now()
);
create table public.effects (event_id bigint primary key, payload jsonb not null)`

// Open makes a database with a system's schema, from a template that the first call makes.
func (e *Env) Open(ctx context.Context, system systems.System) (*Database, error) {
	template := "template_" + strings.ReplaceAll(system.Info().Name, "-", "_")
	if !e.templates[template] {
		if err := e.makeTemplate(ctx, template, system); err != nil {
			return nil, fmt.Errorf("set up %s: %w", system.Info().Name, err)
		}
		e.templates[template] = true
	}
	e.count++
	d := &Database{Name: fmt.Sprintf("bench_%d", e.count), env: e}
	if err := e.admin(ctx, "create database "+d.Name+" template "+template); err != nil {
		return nil, err
	}
	d.URL = e.Server.URL(d.Name)
	var err error
	if d.Pool, err = openPool(ctx, d.URL); err != nil {
		return nil, err
	}
	return d, nil
}

func (e *Env) makeTemplate(ctx context.Context, name string, system systems.System) error {
	if err := e.admin(ctx, "create database "+name); err != nil {
		return err
	}
	pool, err := openPool(ctx, e.Server.URL(name))
	if err != nil {
		return err
	}
	defer pool.Close() // a template with connections cannot be copied
	if _, err := pool.Exec(ctx, domainSchema); err != nil {
		return err
	}
	return system.Setup(ctx, pool)
}

// Close drops the database. That it fails does not matter: the server goes, too.
func (d *Database) Close() {
	d.Pool.Close()
	_ = d.env.admin(context.Background(), "drop database "+d.Name+" with (force)")
}

// Calm leaves nothing to do for later of what was written: as autovacuum does with a backlog, and the checkpointer.
func (d *Database) Calm(ctx context.Context) error {
	if _, err := d.Pool.Exec(ctx, "vacuum (analyze)"); err != nil {
		return err
	}
	_, err := d.Pool.Exec(ctx, "checkpoint")
	return err
}

// admin runs a statement that cannot run in the database it is about.
func (e *Env) admin(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, e.Server.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

func openPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = poolSize
	return pgxpool.NewWithConfig(ctx, config)
}
