package embeddedpg

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func startServer(t *testing.T) *Server {
	t.Helper()
	s, err := Start(t.Context(), Config{Logf: t.Logf, Settings: testSettings})
	return keep(t, s, err)
}

// keep stops a server at the end of the test.
func keep(t *testing.T, s *Server, err error) *Server {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return s
}

func TestStartAndStop(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	url := s.URL("postgres")

	for name, want := range map[string]string{
		"server_encoding":         "UTF8",
		"max_connections":         "200",
		"fsync":                   "off",       // as asked for
		"full_page_writes":        "on",        // PostgreSQL's own default
		"listen_addresses":        "127.0.0.1", // nobody but this machine
		"unix_socket_directories": "",
	} {
		if got := query[string](t, url, "select current_setting('"+name+"')"); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	info, err := os.Stat(s.home.data())
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 {
		t.Error("the data folder is root's")
	}

	for range 2 {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	awaitGone(t, url, s.home.path)
	if err := s.Restart(t.Context()); err == nil {
		t.Error("a stopped server was restarted")
	}
}

func TestPasswordIsAsked(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	config, err := pgx.ParseConfig(s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	config.Password = "guess"
	_, err = pgx.ConnectConfig(t.Context(), config)
	var pgErr *pgconn.PgError
	const invalidPassword = "28P01"
	if !errors.As(err, &pgErr) || pgErr.Code != invalidPassword {
		t.Fatalf("a wrong password got %v", err)
	}
}

// PostgreSQL refuses to run as root, so the suite would only ever see one of the two ways if it did not do this.
func TestStartAsOtherUser(t *testing.T) {
	t.Parallel()
	acct, err := currentAccount()
	if err != nil {
		t.Fatal(err)
	}
	if acct.credential == nil {
		return // Not root: the other tests are what this one would run.
	}
	// Go builds test binaries in a folder that only their user can enter.
	base := openFolder(t)
	binary := filepath.Join(base, "embeddedpg.test")
	copyFile(t, os.Args[0], binary)

	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^(TestStartAndStop|TestParentKilled|TestRestart)$", "-test.v")
	cmd.Dir = base
	cmd.Env = append(os.Environ(), "TMPDIR="+base, "HOME="+base)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: acct.credential}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as user %s: %v\n%s", acct.name, err, out)
	}
	if n := strings.Count(string(out), "--- PASS"); n < 3 {
		t.Errorf("as user %s only %d tests passed\n%s", acct.name, n, out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	source, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(target, source); err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	url := s.URL("postgres")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "create table public.kept as select 42 as answer"); err != nil {
		t.Fatal(err)
	}

	for _, end := range []struct {
		name   string
		signal syscall.Signal
	}{
		{"killed", syscall.SIGKILL}, // conn's backend lives on for a moment, and holds the shared memory
		{"stopped", syscall.SIGINT},
		{"running", syscall.Signal(0)},
	} {
		pid := s.Pid()
		if err := syscall.Kill(pid, end.signal); err != nil {
			t.Fatalf("%s: %v", end.name, err)
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatalf("%s: %v", end.name, err)
		}
		if s.Pid() == pid {
			t.Errorf("%s: the pid is the old one", end.name)
		}
		if s.URL("postgres") != url {
			t.Errorf("%s: the address changed", end.name)
		}
		if got := query[int](t, url, "select answer from public.kept"); got != 42 {
			t.Errorf("%s: read %d", end.name, got)
		}
	}
}

func TestStopAfterKill(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	if err := syscall.Kill(s.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, s.URL("postgres"), s.home.path)
}

func TestFailedStartSaysWhyAndLeavesNothing(t *testing.T) {
	base := openFolder(t)
	t.Setenv("TMPDIR", base)
	_, err := Start(t.Context(), Config{Settings: map[string]string{"shared_buffers": "plenty"}})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "shared_buffers": "plenty"`) {
		t.Errorf("the server's reason is missing: %v", err)
	}
	if left := homes(t, base); left != nil {
		t.Errorf("left %v", left)
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	base := openFolder(t)
	t.Setenv("TMPDIR", base)
	ctx, cancel := context.WithCancel(t.Context())
	// Once it has a home, the next thing is initdb.
	go func() {
		for ctx.Err() == nil && len(homes(t, base)) == 0 {
			runtime.Gosched()
		}
		cancel()
	}()
	if _, err := Start(ctx, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	cancel()
	if left := homes(t, base); left != nil {
		t.Errorf("left %v", left)
	}
}

func TestSettingsText(t *testing.T) {
	t.Parallel()
	got := settingsText(map[string]string{"work_mem": "4MB", "log_line_prefix": `it's \here `})
	if want := "log_line_prefix = 'it''s \\\\here '\nwork_mem = '4MB'\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
