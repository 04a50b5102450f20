package cli_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

func TestConnect(t *testing.T) {
	t.Parallel()
	pool, err := cli.Connect(t.Context(), pgtest.NewEmpty(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if got := pool.Config().MaxConns; got != 16 {
		t.Errorf("pool of %d connections, want 16", got)
	}
}

func TestConnectTakesPoolSize(t *testing.T) {
	t.Parallel()
	pool, err := cli.Connect(t.Context(), with(t, pgtest.NewEmpty(t).URL, "pool_max_conns", "3"))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if got := pool.Config().MaxConns; got != 3 {
		t.Errorf("pool of %d connections, want 3", got)
	}
}

func TestConnectRefusesURL(t *testing.T) {
	t.Parallel()
	tests := map[string]string{ // url: part of the error
		"":                                              "DATABASE_URL is not set",
		"localhost:5432/db":                             "DATABASE_URL is malformed",
		"postgres://u:hunter2@h:port/db":                "DATABASE_URL is malformed (invalid port)",
		"postgres://u:hunter2/x@h/db":                   "DATABASE_URL is malformed",
		"postgres://u:22/hunter2@h/db":                  "DATABASE_URL is malformed",
		"postgres://u:hunter2%zz@h/db":                  "DATABASE_URL is malformed",
		"postgres://u:hunter2@h/db?sslmode=what":        "sslmode",
		"host=h password=hunter2 sslmode=what":          "sslmode",
		"postgres://u:hunter2@h/db?pool_max_conns=many": "pool_max_conns",
	}
	for given, want := range tests {
		_, err := cli.Connect(t.Context(), given)
		checkLine(t, given, err, want)
	}
}

func TestConnectUnreachable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()

	// It accepts, in the kernel's queue, and never says a word.
	_, err = cli.Connect(t.Context(), "postgres://u:hunter2@"+address+"/db?sslmode=disable&connect_timeout=1")
	checkLine(t, "silent", err, "no PostgreSQL answers at "+address+" (it does not answer in time)")

	_ = listener.Close()
	_, err = cli.Connect(t.Context(), "postgres://u:hunter2@"+address+"/db")
	checkLine(t, "closed", err, "no PostgreSQL answers at "+address+" (connection refused)")

	_, err = cli.Connect(t.Context(), "postgres://u:hunter2@host.invalid/db")
	checkLine(t, "no host", err, "no PostgreSQL answers at host.invalid:5432 (host.invalid: ")

	_, err = cli.Connect(t.Context(), "postgres://u:hunter2@/db?host=/nowhere")
	checkLine(t, "no socket", err, "no PostgreSQL answers at /nowhere/.s.PGSQL.5432 (no such file or directory)")
}

// A server without TLS says so with a letter.
func TestConnectWithoutTLS(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.ReadFull(conn, make([]byte, 8))
		_, _ = conn.Write([]byte("N"))
	}()
	address := listener.Addr().String()
	_, err = cli.Connect(t.Context(), "postgres://u:hunter2@"+address+"/db?sslmode=require")
	checkLine(t, "no TLS", err, "PostgreSQL at "+address+" cannot be reached with TLS (server refused TLS connection): correct sslmode")
	_ = listener.Close()
	<-answered
}

func TestConnectRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	base, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}

	missing := *base
	missing.Path = "/no_such_database"
	_, err = cli.Connect(t.Context(), missing.String())
	checkLine(t, "database", err, `has no database "no_such_database": create it`)

	stranger := *base
	stranger.User = url.UserPassword("stranger", "hunter2")
	_, err = cli.Connect(t.Context(), stranger.String())
	checkLine(t, "user", err, `refuses the password of user "stranger"`)
}

func TestConnectCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := cli.Connect(ctx, pgtest.NewEmpty(t).URL); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// checkLine wants an error of one line that has want in it, and no password.
func checkLine(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: no error", what)
	case !strings.Contains(err.Error(), want):
		t.Errorf("%s: %q lacks %q", what, err, want)
	case strings.Contains(err.Error(), "\n"):
		t.Errorf("%s: %q has more than one line", what, err)
	case strings.Contains(err.Error(), "hunter2"):
		t.Errorf("%s: %q shows the password", what, err)
	}
}

// with returns a database URL with one more parameter.
func with(t *testing.T, databaseURL, name, value string) string {
	t.Helper()
	parsed, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query := parsed.Query()
	query.Set(name, value)
	parsed.RawQuery = query.Encode()
	return parsed.String()
}

// TestConnectRefusedSetting connects as a role with a setting that it may not change: the error says what to take back, and does not
// blame the server.
func TestConnectRefusedSetting(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	role := "refused_" + db.Pool.Config().ConnConfig.Database
	for _, sql := range []string{"create role " + role + " login password 'secret'", "alter role " + role + " set session_replication_role = replica"} {
		if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := db.Pool.Exec(context.Background(), "drop role "+role); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "secret")
	_, err = cli.Connect(t.Context(), u.String())
	if err == nil || !strings.Contains(err.Error(), `"session_replication_role"`) || !strings.Contains(err.Error(), "alter role … reset") ||
		strings.Contains(err.Error(), "no PostgreSQL answers") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}
