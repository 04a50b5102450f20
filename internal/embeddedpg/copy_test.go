package embeddedpg

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// run executes SQL at a server.
func run(t *testing.T, s *Server, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	run(t, s, `create table t as select generate_series(1, 10000) as n`)
	c, err := s.Copy(t.Context())
	keep(t, c, err)
	run(t, s, `delete from t`)
	const identifier = `select system_identifier::text from pg_control_system()`
	if a, b := query[string](t, s.URL("postgres"), identifier), query[string](t, c.URL("postgres"), identifier); a != b {
		t.Errorf("the copy of cluster %s is %s", a, b)
	}
	run(t, c, `insert into t values (0)`)
	if n := query[int](t, c.URL("postgres"), `select count(*) from t`); n != 10001 {
		t.Errorf("the copy has %d rows", n)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestStandby(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	run(t, s, `create table t (n int)`)
	c, err := s.Standby(t.Context())
	keep(t, c, err)
	run(t, s, `insert into t values (1)`)
	deadline := time.Now().Add(patience)
	for query[int](t, c.URL("postgres"), `select count(*) from t`) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the standby does not follow")
		}
		time.Sleep(10 * time.Millisecond)
	}
	run(t, c, `select pg_promote()`)
	run(t, c, `insert into t values (2)`)
}
