package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/outbox"
)

// hiddenSQL asks for the tables that readers and settles rely on.
const hiddenSQL = `
select quote_ident(current_user), array(select t.name from unnest(array[
    'outbox.events', 'outbox.subscriptions', 'outbox.workers', 'outbox.members', 'outbox.lanes', 'outbox.progress', 'outbox.deliveries', 'outbox.held_keys',
    'outbox.cluster', 'outbox.trimmed', 'outbox.topic_changes', 'outbox.features']) as t (name) where row_security_active(t.name))`

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

// checkRowSecurity returns a *HiddenError when this role may be shown a part of the outbox only.
func checkRowSecurity(ctx context.Context, db querier) error {
	var (
		role   string
		hidden []string
	)
	err := db.QueryRow(ctx, hiddenSQL).Scan(&role, &hidden)
	if err != nil {
		return fmt.Errorf("check row security: %w", err)
	}
	if len(hidden) > 0 {
		return &HiddenError{Role: role, Tables: hidden}
	}
	return nil
}

// CheckLog returns outbox.ErrForeignCluster, outbox.ErrLogBehind or outbox.ErrRowSecurity when something is wrong with the log as a
// whole: readers would repeat or miss events. It takes a millisecond. Safe for concurrent use as far as db is.
func CheckLog(ctx context.Context, db querier) error {
	if err := checkRowSecurity(ctx, db); err != nil {
		return err
	}
	var fault *string
	if err := db.QueryRow(ctx, `select outbox.fault()`).Scan(&fault); err != nil {
		return fmt.Errorf("check the log: %w", err)
	}
	switch {
	case fault == nil:
		return nil
	case *fault == "foreign":
		return naming.For(db).Advised(outbox.ErrForeignCluster)
	}
	return naming.For(db).Advised(outbox.ErrLogBehind)
}
