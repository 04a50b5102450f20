package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// checkTransactions looks for what keeps vacuum from removing old rows, in this database.
func checkTransactions(ctx context.Context, p *patient) ([]Finding, error) {
	rows, _ := p.conn.Query(ctx, `
		select a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
		       extract(epoch from clock_timestamp() - a.xact_start)::double precision
		from pg_stat_activity a
		where a.datname = current_database() and a.xact_start < clock_timestamp() - $1::interval and a.backend_type = 'client backend'
		order by a.xact_start`, p.cfg.OldTransaction)
	type transaction struct {
		PID               int32
		User, Name, State string
		Seconds           float64
	}
	open, err := pgx.CollectRows(rows, pgx.RowToStructByPos[transaction])
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, t := range open {
		what, remedy := "runs a statement", "If it is not needed"
		if t.State == "idle in transaction" || t.State == "idle in transaction (aborted)" {
			what, remedy = "is idle", "Have that program end its transactions, or set idle_in_transaction_session_timeout for its role. To end it now"
		}
		found = append(found, Finding{
			fmt.Sprintf("A transaction is open for %s, and %s: process %d of role %s (%q). Vacuum cannot remove what was deleted since, and its events, if it has published, wait.",
				rounded(t.Seconds), what, t.PID, t.User, t.Name),
			fmt.Sprintf("%s: select pg_terminate_backend(%d)", remedy, t.PID),
		})
	}
	rows, _ = p.conn.Query(ctx, `
		select x.gid, x.owner::text, extract(epoch from clock_timestamp() - x.prepared)::double precision
		from pg_prepared_xacts x
		where x.database = current_database() and x.prepared < clock_timestamp() - $1::interval
		order by x.prepared`, p.cfg.OldTransaction)
	var (
		gid, owner string
		seconds    float64
	)
	_, err = pgx.ForEachRow(rows, []any{&gid, &owner, &seconds}, func() error {
		found = append(found, Finding{
			fmt.Sprintf("The transaction %q of role %s is prepared for %s, and neither committed nor rolled back. Vacuum cannot remove what was deleted since.", gid, owner, rounded(seconds)),
			fmt.Sprintf("Have its coordinator finish it, or decide: commit prepared %[1]s, or rollback prepared %[1]s", "'"+strings.ReplaceAll(gid, "'", "''")+"'"),
		})
		return nil
	})
	return found, err
}

// deadRows is how many deleted rows a table may have that vacuum has not removed: the largest has a threshold of 2,000.
const deadRows = 200_000

// checkVacuum looks at the tables from which rows are deleted all the time.
func checkVacuum(ctx context.Context, p *patient) ([]Finding, error) {
	var (
		on    bool
		found []Finding
	)
	if err := p.conn.QueryRow(ctx, `select current_setting('autovacuum')::boolean and current_setting('track_counts')::boolean`).Scan(&on); err != nil {
		return nil, err
	}
	if !on {
		found = append(found, Finding{
			"Autovacuum is off: deleted rows of outbox.progress and outbox.deliveries stay, and slow the workers down.",
			"Set autovacuum = on and track_counts = on in postgresql.conf, and reload.",
		})
	}
	rows, _ := p.conn.Query(ctx, `
		select c.relname::text, coalesce(s.n_dead_tup, 0), coalesce(c.reloptions, '{}') && array['autovacuum_enabled=false', 'autovacuum_enabled=off', 'autovacuum_enabled=0']
		from pg_class c left join pg_stat_user_tables s on s.relid = c.oid
		where c.relnamespace = 'outbox'::regnamespace and c.relkind = 'r'
		order by c.relname`)
	var (
		table string
		dead  int64
		off   bool
	)
	_, err := pgx.ForEachRow(rows, []any{&table, &dead, &off}, func() error {
		if off {
			found = append(found, Finding{
				fmt.Sprintf("Autovacuum is off for outbox.%s.", table),
				fmt.Sprintf("Run: alter table outbox.%s reset (autovacuum_enabled)", table),
			})
		}
		if dead > deadRows {
			found = append(found, Finding{
				fmt.Sprintf("outbox.%s has %d deleted rows that vacuum has not removed.", table, dead),
				fmt.Sprintf("See the check of transactions for what keeps it from that, and run: vacuum outbox.%s", table),
			})
		}
		return nil
	})
	return found, err
}

// rounded is a time that people can read.
func rounded(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second)
}
