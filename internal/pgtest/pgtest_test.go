package pgtest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func exec1(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func count(t *testing.T, db *pgtest.DB, sql string) (n int) {
	t.Helper()
	if err := db.Pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	one, other := pgtest.New(t), pgtest.New(t)
	exec1(t, one, "insert into outbox.events (topic, payload) values ('here.only', '{}')")
	if n := count(t, one, "select count(*) from outbox.events"); n != 1 {
		t.Errorf("%d events where one was published", n)
	}
	if n := count(t, other, "select count(*) from outbox.events"); n != 0 {
		t.Errorf("%d events in a database of its own", n)
	}
}

func TestEmptyHasNoSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	if n := count(t, db, "select count(*) from pg_catalog.pg_namespace where nspname = 'outbox'"); n != 0 {
		t.Error("there is a schema outbox")
	}
}

func TestNothingIsLeftAfterTest(t *testing.T) {
	t.Parallel()
	var used *pgtest.DB
	var conn *pgx.Conn
	t.Run("use", func(t *testing.T) {
		used = pgtest.New(t)
		conn = used.Conn(t)
		exec1(t, used, "select 1")
	})
	if !conn.IsClosed() {
		t.Error("the connection is open")
	}
	if err := used.Pool.Ping(t.Context()); err == nil {
		t.Error("the pool is open")
	}
	_, err := pgx.Connect(t.Context(), used.URL)
	if err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("connecting to the dropped database: %v", err)
	}
}

// A connection that the test lost control of must not keep the database.
func TestDropUnderOpenConnection(t *testing.T) {
	t.Parallel()
	var stray *pgx.Conn
	t.Run("use", func(t *testing.T) {
		var err error
		if stray, err = pgx.Connect(t.Context(), pgtest.NewEmpty(t).URL); err != nil {
			t.Fatal(err)
		}
	})
	defer stray.Close(context.Background())
	if err := stray.Ping(t.Context()); err == nil {
		t.Error("the connection lives")
	}
}

func TestServerCanBeKilled(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	if err := syscall.Kill(server.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// runSelf runs tests of this binary in another process. Variables of the environment are set as "name=value".
func runSelf(t *testing.T, tests string, variables ...string) (output string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^("+tests+")$")
	cmd.Env = append(os.Environ(), variables...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestGivenServer(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	admin, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	// Not a superuser: what the tests need is the right to create databases.
	if _, err := admin.Exec(t.Context(), "create role tester login createdb password 'secret'"); err != nil {
		t.Fatal(err)
	}
	config := admin.Config()
	given := "TEST_DATABASE_URL=" + strings.Replace(server.URL("postgres"), config.User+":"+config.Password, "tester:secret", 1)

	var processes sync.WaitGroup
	for range 2 {
		processes.Go(func() {
			out, err := runSelf(t, "TestDatabasesAreApart|TestEmptyHasNoSchema", given)
			if err != nil || strings.Count(out, "--- PASS") != 2 {
				t.Errorf("on a given server: %v\n%s", err, out)
			}
			if strings.Contains(out, "is ready on port") {
				t.Errorf("a cluster was started all the same:\n%s", out)
			}
		})
	}
	processes.Wait()

	rows, err := admin.Query(t.Context(), "select datname from pg_catalog.pg_database where datname not in ('postgres', 'template0', 'template1')")
	if err != nil {
		t.Fatal(err)
	}
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("databases left on the given server: %v", left)
	}
}

func TestClusterGoesWithTheProcess(t *testing.T) {
	t.Parallel()
	// The testing package's own folders are closed to the user that root's PostgreSQL runs as.
	base, err := os.MkdirTemp("/tmp", "pgtest-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	if err := os.Chmod(base, 0o777); err != nil {
		t.Fatal(err)
	}
	out, err := runSelf(t, "TestEmptyHasNoSchema", "TMPDIR="+base, "TEST_DATABASE_URL=")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if left, err := os.ReadDir(base); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestNoDatabaseFailsWithWhatToDo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ variable, says string }{
		"wrong bin folder":  {"SIGNALBOX_PG_BIN=/nowhere", "SIGNALBOX_PG_BIN must be the bin folder of PostgreSQL 15 or newer"},
		"not a URL":         {"TEST_DATABASE_URL=host=localhost", "TEST_DATABASE_URL must be of the form postgres://"},
		"nobody answers it": {"TEST_DATABASE_URL=postgres://127.0.0.1:1/postgres", "connect to the test server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := runSelf(t, "TestDatabasesAreApart", "TEST_DATABASE_URL=", test.variable)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(out, "--- FAIL") || strings.Contains(out, "SKIP") {
				t.Errorf("it did not fail: %v\n%s", err, out)
			}
			if !strings.Contains(out, test.says) {
				t.Errorf("it does not say %q:\n%s", test.says, out)
			}
		})
	}
}

const leakVariable = "SIGNALBOX_TEST_LEAK"

// TestLeak leaks a goroutine, in the process that TestMainFindsLeaks starts.
func TestLeak(t *testing.T) {
	if os.Getenv(leakVariable) != "" {
		pgtest.NewEmpty(t)
		go time.Sleep(time.Hour)
	}
}

func TestMainFindsLeaks(t *testing.T) {
	t.Parallel()
	out, err := runSelf(t, "TestLeak", leakVariable+"=1")
	if err == nil || !strings.Contains(out, "found unexpected goroutines") || !strings.Contains(out, "TestLeak") {
		t.Errorf("%v\n%s", err, out)
	}
	if n := strings.Count(out, "[Goroutine "); n != 1 {
		t.Errorf("%d goroutines count as leaked, the cluster's among them:\n%s", n, out)
	}
}
