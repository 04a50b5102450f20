package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	connectionPatience = 5 * time.Second // for a statement
	notifyPatience     = 2 * time.Second
	lockClass          = 7446927 // next to those that workers use: see package outbox
)

const proxyRemedy = "Give workers a DATABASE_URL that reaches PostgreSQL itself. Publishers may stay behind the proxy. Until then workers only poll, and " +
	"the lanes of a dead one are free after 30s instead of 2s."

// checkConnection tries what workers need of a session. Another client is busy in a transaction meanwhile: a pooling proxy then
// has to hand out another server connection.
func checkConnection(ctx context.Context, p *patient) ([]Finding, error) {
	session, err := p.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { shut(session) }()
	other, err := p.connect(ctx)
	if err != nil {
		return []Finding{{"A second connection was refused: " + firstLine(err) + ".", "Raise max_connections, or the proxy's limit: each worker needs 2 connections and more."}}, nil
	}
	defer func() { shut(other) }()

	t := trial{session: session, other: other, channel: "signalbox_doctor_" + strings.ToLower(rand.Text()[:12])}
	broken, err := t.run(ctx)
	if err != nil {
		return nil, err
	}
	if len(broken) == 0 {
		return nil, nil
	}
	return []Finding{{"This connection goes through a pooling proxy: " + strings.Join(broken, ", ") + ".", proxyRemedy}}, nil
}

// A trial is of one session beside another client.
type trial struct {
	session, other *pgx.Conn
	channel        string
	lock           int32
}

// run returns what does not work.
func (t *trial) run(ctx context.Context) (broken []string, err error) {
	t.lock = int32(time.Now().UnixNano() & 0x7fffffff)
	var before int64
	if err := t.session.QueryRow(ctx, `select pg_backend_pid()`).Scan(&before); err != nil {
		return nil, err
	}
	if before != int64(t.session.PgConn().PID()) {
		broken = append(broken, "it has another process id than PostgreSQL's")
	}
	if _, err := t.session.Exec(ctx, "listen "+t.channel); err != nil {
		return nil, err
	}
	if _, err := t.session.Exec(ctx, `select pg_advisory_lock($1, $2)`, lockClass, t.lock); err != nil {
		return nil, err
	}
	moved, err := t.beside(ctx, before)
	if err != nil {
		return nil, err
	}
	broken = append(broken, moved...)
	heard, err := t.hears(ctx)
	if err != nil {
		return nil, err
	}
	if !heard {
		broken = append(broken, "it does not hear notifications")
	}
	return broken, nil
}

// beside looks at the session while the other client has a transaction open, and cleans up what the session may have left in a
// server connection of the pool.
func (t *trial) beside(ctx context.Context, before int64) (broken []string, err error) {
	err = pgx.BeginFunc(ctx, t.other, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select 1`); err != nil {
			return err
		}
		var (
			now  int64
			held bool
		)
		patient, cancel := context.WithTimeout(ctx, connectionPatience)
		defer cancel()
		err := t.session.QueryRow(patient, `
			select pg_backend_pid(),
			       exists (select from pg_locks l
			               where l.locktype = 'advisory' and l.classid = $1 and l.objid::bigint = $2 and l.pid = pg_backend_pid())`,
			lockClass, t.lock).Scan(&now, &held)
		switch {
		case err != nil && ctx.Err() == nil && pgconn.Timeout(err):
			broken = append(broken, "it waits for other clients' transactions")
		case err != nil:
			return err
		default:
			if now != before {
				broken = append(broken, "its server process changes between transactions")
			}
			if !held {
				broken = append(broken, "session locks are lost")
			}
		}
		// It has the server connection that the session had, if that was given away.
		if len(broken) > 0 {
			_, err = tx.Exec(ctx, `
				select pg_advisory_unlock($1, $2)
				where exists (select from pg_locks l
				              where l.locktype = 'advisory' and l.classid = $1 and l.objid::bigint = $2 and l.pid = pg_backend_pid())`, lockClass, t.lock)
			return err
		}
		return nil
	})
	return broken, err
}

// hears reports whether the session gets a notification, of which the other client is the sender.
func (t *trial) hears(ctx context.Context) (bool, error) {
	if t.session.IsClosed() {
		return false, nil
	}
	var stuck bool // and a finding of checkNotifications
	if err := t.other.QueryRow(ctx, stuckSQL).Scan(&stuck); err != nil || stuck {
		return stuck, err
	}
	if _, err := t.other.Exec(ctx, `select pg_notify($1, '')`, t.channel); err != nil {
		return false, err
	}
	waiting, cancel := context.WithTimeout(ctx, notifyPatience)
	defer cancel()
	_, err := t.session.WaitForNotification(waiting)
	if err != nil && ctx.Err() == nil && pgconn.Timeout(err) {
		// What listens in its place should not for ever.
		_, err := t.other.Exec(ctx, "unlisten "+t.channel)
		return false, err
	}
	return err == nil, err
}

func firstLine(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Message
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// stuckSQL is what outbox.notifications_stuck says, also where the schema is missing.
const stuckSQL = `select pg_notification_queue_usage() >= 0.5`

// checkNotifications looks at the server's queue of notifications, which all databases share.
func checkNotifications(ctx context.Context, p *patient) ([]Finding, error) {
	var (
		stuck bool
		usage float64
	)
	if err := p.conn.QueryRow(ctx, `select outbox.notifications_stuck(), pg_notification_queue_usage()`).Scan(&stuck, &usage); err != nil || !stuck {
		return nil, err
	}
	return []Finding{{
		fmt.Sprintf("The server's queue of notifications is %.0f%% full: publishers and workers send none, and events wait for the next poll. When it is full, commits of other applications that notify fail.", 100*usage),
		"A session that listens does not end its transaction. Find it, and end it: select pid, application_name, xact_start, query from pg_stat_activity where xact_start < now() - interval '1 minute' order by xact_start",
	}}, nil
}
