package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/producer"
	"github.com/signalbox-go/signalbox/worker"
)

// hostile are settings that a database or a role may have, and what outbox.Publish says to them in a session of the application's
// own, which it does not change: nothing where it publishes.
var hostile = []struct{ name, value, says string }{
	{"array_nulls", "off", ""},
	{"backend_flush_after", "8", ""},
	{"backslash_quote", "off", ""},
	{"bytea_output", "escape", ""},
	{"check_function_bodies", "off", ""},
	{"client_connection_check_interval", "100", ""},
	{"client_encoding", "LATIN1", "client_encoding"},
	{"client_encoding", "SQL_ASCII", "client_encoding"},
	{"client_encoding", "SJIS", "client_encoding"},
	{"client_min_messages", "debug5", ""},
	{"commit_delay", "1000", ""},
	{"constraint_exclusion", "on", ""},
	{"cpu_index_tuple_cost", "10000", ""},
	{"cpu_operator_cost", "10000", ""},
	{"cpu_tuple_cost", "10000", ""},
	{"cursor_tuple_fraction", "1", ""},
	{"datestyle", "sql, dmy", ""},
	{"datestyle", "german", ""},
	{"datestyle", "postgres", ""},
	{"default_statistics_target", "1", ""},
	{"default_toast_compression", "pglz", ""},
	{"default_transaction_deferrable", "on", ""},
	{"default_transaction_isolation", "serializable", ""},
	{"default_transaction_isolation", "repeatable read", ""},
	{"default_transaction_read_only", "on", "read-only transaction"},
	{"effective_cache_size", "1", ""},
	{"enable_bitmapscan", "off", ""},
	{"enable_hashagg", "off", ""},
	{"enable_hashjoin", "off", ""},
	{"enable_incremental_sort", "off", ""},
	{"enable_indexonlyscan", "off", ""},
	{"enable_indexscan", "off", ""},
	{"enable_material", "off", ""},
	{"enable_memoize", "off", ""},
	{"enable_mergejoin", "off", ""},
	{"enable_nestloop", "off", ""},
	{"enable_seqscan", "off", ""},
	{"enable_sort", "off", ""},
	{"enable_tidscan", "off", ""},
	{"escape_string_warning", "off", ""},
	{"exit_on_error", "on", ""},
	{"extra_float_digits", "-15", ""},
	{"from_collapse_limit", "1", ""},
	{"geqo_threshold", "2", ""},
	{"idle_in_transaction_session_timeout", "20", ""},
	{"idle_session_timeout", "1000", ""},
	{"intervalstyle", "sql_standard", ""},
	{"intervalstyle", "iso_8601", ""},
	{"jit_above_cost", "0", ""},
	{"join_collapse_limit", "1", ""},
	{"lock_timeout", "20", ""},
	{"log_min_duration_statement", "0", ""},
	{"lo_compat_privileges", "on", ""},
	{"max_parallel_workers_per_gather", "8", ""},
	{"min_parallel_table_scan_size", "0", ""},
	{"parallel_setup_cost", "0", ""},
	{"parallel_tuple_cost", "0", ""},
	{"plan_cache_mode", "force_custom_plan", ""},
	{"plan_cache_mode", "force_generic_plan", ""},
	{"quote_all_identifiers", "on", ""},
	{"random_page_cost", "10000", ""},
	{"row_security", "off", ""},
	{"search_path", "", ""},
	{"search_path", "pg_temp", ""},
	{"search_path", "mean, pg_catalog", ""},
	{"session_replication_role", "replica", ""},
	{"standard_conforming_strings", "off", ""},
	{"statement_timeout", "5000", ""},
	{"synchronous_commit", "off", ""},
	{"tcp_user_timeout", "1000", ""},
	{"temp_buffers", "100", ""},
	{"timezone", "Asia/Kolkata", ""},
	{"timezone_abbreviations", "India", ""},
	{"track_activities", "off", ""},
	{"transaction_timeout", "5000", ""},
	{"transform_null_equals", "on", ""},
	{"vacuum_cost_delay", "50", ""},
	{"work_mem", "64", ""},
	{"xmlbinary", "hex", ""},
	{"xmloption", "document", ""},
}

// TestSettings has a worker, a producer and the command work in databases whose sessions have settings that do not suit them, and an
// application publish there.
func TestSettings(t *testing.T) {
	t.Parallel()
	const lanes = 4 // databases, each for a part of the settings in turn
	for i := range lanes {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			plain := db.Conn(t) // with the settings of now
			m := &matrix{db: db, plain: plain}
			// Names of ours, for a search path that has them before PostgreSQL's.
			m.exec(t, `create schema mean`, `create function mean.now() returns timestamptz language sql as 'select null::timestamptz'`,
				`create function mean.pg_backend_pid() returns integer language sql as 'select 1'`,
				`create function mean.unnest(text[]) returns text language sql as 'select null::text'`)
			for j, s := range hostile {
				if j%lanes != i || m.unknown(t, s.name) {
					continue
				}
				for _, level := range []string{"database %[1]I", "role %[2]I in database %[1]I"} {
					target := m.format(t, level)
					name := fmt.Sprintf("%s = %s for %s", s.name, s.value, strings.Fields(target)[0])
					value := "'" + s.value + "'"
					if s.name == "search_path" && s.value != "" {
						value = s.value
					}
					m.exec(t, fmt.Sprintf("alter %s set %s = %s", target, s.name, value))
					m.try(t, name, s.says)
					m.exec(t, fmt.Sprintf("alter %s reset all", target))
				}
			}
		})
	}
}

// matrix is a database in which settings are tried, one after the other.
type matrix struct {
	db    *pgtest.DB
	plain *pgx.Conn
	n     int
}

func (m *matrix) exec(t *testing.T, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := m.plain.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func (m *matrix) unknown(t *testing.T, setting string) (unknown bool) {
	t.Helper()
	if err := m.plain.QueryRow(t.Context(), `select current_setting($1, true) is null`, setting).Scan(&unknown); err != nil {
		t.Fatal(err)
	}
	return unknown
}

func (m *matrix) format(t *testing.T, level string) (target string) {
	t.Helper()
	level = strings.NewReplacer("%[1]I", "%1$I", "%[2]I", "%2$I").Replace(level)
	if err := m.plain.QueryRow(t.Context(), `select format($1, current_database(), current_user)`, level).Scan(&target); err != nil {
		t.Fatal(err)
	}
	return target
}

// try has everything work once.
func (m *matrix) try(t *testing.T, name, says string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := &strings.Builder{}
	theirs, err := pgxpool.New(ctx, m.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()

	// The worker, on what the application's pool says.
	handled := make(chan string, 100)
	w, err := worker.New(theirs, worker.Config{Logger: slog.New(slog.NewTextHandler(log, nil)), Name: "w"})
	if err != nil {
		t.Fatal(err)
	}
	err = worker.Handle(w, worker.Subscription{Name: "s", Topics: []string{"t"}}, func(_ context.Context, e *worker.Event[string]) error {
		handled <- e.Key + e.Payload + e.Headers["ö"]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()

	// The application publishes, in each mode of pgx, one and several.
	want := 0
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		config, err := pgx.ParseConfig(m.db.URL)
		if err != nil {
			t.Fatal(err)
		}
		config.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			t.Errorf("%s, %v: connect: %v", name, mode, err)
			continue
		}
		for _, n := range []int{1, 2} {
			var events []outbox.Event
			for range n {
				e, err := outbox.NewEvent("t", "ä", `ü\"`)
				if err != nil {
					t.Fatal(err)
				}
				e.Headers = map[string]string{"ö": "'"}
				events = append(events, e)
			}
			published, err := outbox.Publish(ctx, conn, events...)
			why := says
			if mode == pgx.QueryExecModeSimpleProtocol && strings.HasPrefix(name, "standard_conforming_strings") {
				why = "standard_conforming_strings"
			}
			switch {
			case why != "" && (err == nil || !strings.Contains(err.Error(), why)):
				t.Errorf("%s, %v: Publish returns %v", name, mode, err)
			case why == "" && err != nil:
				t.Errorf("%s, %v: Publish returns %v", name, mode, err)
			case why == "":
				if age := time.Since(published[n-1].PublishedAt); age < -time.Minute || age > time.Minute {
					t.Errorf("%s, %v: an event was published %v ago", name, mode, age)
				}
				want += n
			}
		}
		_ = conn.Close(ctx)
	}
	if want == 0 { // the worker has something to do in any case
		m.exec(t, `insert into outbox.events (topic, key, payload, headers) values ('t', 'ä', '"ü\\\""', '{"ö": "''"}')`)
		want = 1
	}

	// The reference service, and the command.
	pool, err := cli.Connect(ctx, m.db.URL)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer pool.Close()
	m.n++
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/ingest", strings.NewReader(`{"name": "ä", "value": 1.5}`))
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	producer.NewHandler(pool, producer.Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}).ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		t.Errorf("%s: the producer answers %d %s", name, answer.Code, answer.Body)
	}
	for _, args := range []string{
		"status --json", "events list", "deliveries list -s s", "events show 1", "migrate",
		fmt.Sprintf("subscriptions create s%d --topics x", m.n), fmt.Sprintf("subscriptions pause s%d", m.n),
		fmt.Sprintf("subscriptions delete s%d --yes", m.n),
	} {
		if out, err := run(t, append(strings.Fields(args), "--database-url", m.db.URL)...); err != nil {
			t.Errorf("%s: outbox %s: %v\n%s", name, args, err, out)
		}
	}

	for range want {
		select {
		case got := <-handled:
			if got != `äü\"'` {
				t.Errorf("%s: the worker got %q", name, got)
			}
		case err := <-ended:
			t.Fatalf("%s: the worker ended: %v", name, err)
		case <-time.After(time.Minute):
			cancel()
			err := <-ended
			t.Fatalf("%s: an event was not handled, and the worker ended: %v\n%s", name, err, log)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("%s: the worker ended: %v", name, err)
	}
	if strings.Count(log.String(), "WARN") > strings.Count(log.String(), "created subscription") {
		t.Errorf("%s: the worker warned\n%s", name, log)
	}
}
