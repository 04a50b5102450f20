package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/outbox"
)

// checkSQL asks which of the tables that readers and settles rely on are not shown as a whole, and what is wrong with the
// log. Workers ask it every few seconds, so it is one statement.
const checkSQL = `
select quote_ident(current_user), array(select t.name from unnest(array[
           'outbox.events', 'outbox.subscriptions', 'outbox.workers', 'outbox.members', 'outbox.lanes', 'outbox.progress', 'outbox.deliveries', 'outbox.held_keys',
           'outbox.cluster', 'outbox.trimmed', 'outbox.topic_changes', 'outbox.features']) as t (name) where row_security_active(t.name)),
       outbox.fault()`

// A querier is a connection, a pool or a transaction of pgx.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// A HiddenError says which tables row security hides from which role. It is an outbox.ErrRowSecurity.
type HiddenError struct {
	Role   string
	Tables []string // qualified with their schema
}

func (e *HiddenError) Error() string {
	return fmt.Sprintf(`row security hides rows of %s from role %s: run "alter role %s bypassrls", or "alter table %s disable row level security"`,
		strings.Join(e.Tables, ", "), e.Role, e.Role, e.Tables[0])
}

// Is reports whether target is outbox.ErrRowSecurity.
func (e *HiddenError) Is(target error) bool { return target == outbox.ErrRowSecurity }

// CheckLog returns outbox.ErrForeignCluster, outbox.ErrLogBehind or outbox.ErrRowSecurity when something is wrong with the log as a
// whole: readers would repeat or miss events. It takes a millisecond. Safe for concurrent use as far as db is.
func CheckLog(ctx context.Context, db querier) error {
	var (
		role   string
		hidden []string
		fault  *string
	)
	if err := db.QueryRow(ctx, checkSQL).Scan(&role, &hidden, &fault); err != nil {
		return fmt.Errorf("check the log: %w", err)
	}
	switch {
	case len(hidden) > 0:
		return &HiddenError{Role: role, Tables: hidden}
	case fault == nil:
	case *fault == "foreign":
		return naming.For(db).Advised(outbox.ErrForeignCluster)
	default:
		return naming.For(db).Advised(outbox.ErrLogBehind)
	}
	return nil
}
