// Package settings makes a session of PostgreSQL one that the statements of this module were written for, whatever its server,
// database, role or connection string have set.
package settings

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrRefused says that a session cannot have one of these settings.
var ErrRefused = errors.New("a setting of this role or database does not let the outbox work, and the role may not change it")

// A Setting is one of PostgreSQL's, as current_setting shows it.
type Setting struct{ Name, Value string }

// Essential is what no statement of this module can do without, and what the statements of a transactional handler do not mind
// beside it. Settings that the server's version does not have are passed over.
var Essential = []Setting{
	{"client_encoding", "UTF8"},
	{"standard_conforming_strings", "on"},
	{"default_transaction_isolation", "read committed"}, // heartbeats of serializable transactions fail because of each other
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"}, // waits for others
	{"session_replication_role", "origin"},    // else foreign keys and triggers do nothing
	{"exit_on_error", "off"},
	// What a statement may take, its context says.
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"transaction_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"}, // a session may be idle for days
}

// Own is the rest, for sessions that have no other statements than this module's.
var Own = []Setting{
	{"search_path", "pg_catalog"},
	{"row_security", "off"}, // a policy that hides rows is an error, and not a log with gaps
	{"DateStyle", "ISO, MDY"},
	{"IntervalStyle", "postgres"},
	{"TimeZone", "UTC"},
	{"bytea_output", "hex"},
	{"extra_float_digits", "1"},
	{"array_nulls", "on"},
	{"transform_null_equals", "off"},
	{"backslash_quote", "safe_encoding"},
	{"quote_all_identifiers", "off"},
	{"check_function_bodies", "on"},
	{"default_tablespace", ""},
	{"default_table_access_method", "heap"},
	{"plan_cache_mode", "auto"},
	{"jit", "off"}, // it would compile for the costs of what is disabled for a statement
	{"max_parallel_workers_per_gather", "0"},
	{"enable_seqscan", "on"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"enable_bitmapscan", "on"},
	{"enable_tidscan", "on"},
	{"enable_nestloop", "on"},
	{"enable_hashjoin", "on"},
	{"enable_mergejoin", "on"},
	{"enable_hashagg", "on"},
	{"enable_sort", "on"},
	{"enable_incremental_sort", "on"},
	{"enable_material", "on"},
	{"enable_memoize", "on"},
	{"geqo", "on"},
	{"from_collapse_limit", "8"},
	{"join_collapse_limit", "8"},
	{"constraint_exclusion", "partition"},
	{"cursor_tuple_fraction", "0.1"},
}

// Apply gives a session these settings, in one round trip, and reports whether it reaches PostgreSQL directly. A pooling proxy hands
// out process ids of its own. Its sessions are other clients' the next moment, so they are left as they are.
func Apply(ctx context.Context, conn *pgconn.PgConn, lists ...[]Setting) (direct bool, err error) {
	if status := conn.TxStatus(); status != 'I' {
		return false, errors.New("the connection begins in a transaction: end it in AfterConnect")
	}
	var values []string
	for _, list := range lists {
		for _, s := range list {
			values = append(values, fmt.Sprintf("('%s', '%s')", s.Name, s.Value))
		}
	}
	// Nothing here depends on a setting: names are qualified, operators too, and the transaction is none that would wait or fail
	// because of the defaults that are about to be replaced.
	results, err := conn.Exec(ctx, fmt.Sprintf(`
		begin isolation level read committed, not deferrable; set local statement_timeout = 0;
		select case when s.name operator(pg_catalog.=) 'statement_timeout' -- which is local so far
		                 or pg_catalog.current_setting(s.name, true) operator(pg_catalog.<>) s.value
		            then pg_catalog.set_config(s.name, s.value, false) end
		from (values %s) as s (name, value)
		where pg_catalog.pg_backend_pid() operator(pg_catalog.=) %d;
		commit`, strings.Join(values, ", "), int32(conn.PID()))).ReadAll()
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == pgerrcode.InsufficientPrivilege {
		return false, fmt.Errorf("%w (%s): "+
			`take it back with "alter role … reset" and "alter database … reset", or grant "set on parameter" to the role`, ErrRefused, refused.Message)
	}
	if err != nil {
		return false, fmt.Errorf("set up the session: %w", err)
	}
	return len(results[2].Rows) > 0, nil
}
