package embeddedpg

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// patience is how long a test waits for what should take a moment.
const patience = time.Minute

// testSettings suit servers that are killed, on a machine that is not. A killed server's shared memory would stay in the
// system's folder for it: it is in the server's own here.
var testSettings = map[string]string{"fsync": "off", "dynamic_shared_memory_type": "mmap"}

// holderVariable makes the test binary a holder: a process that runs a server until it is killed.
const holderVariable = "SIGNALBOX_TEST_HOLDER"

func TestMain(m *testing.M) {
	if os.Getenv(holderVariable) != "" {
		hold()
	}
	goleak.VerifyTestMain(m)
}

func hold() {
	signal.Ignore(os.Interrupt)
	s, err := Start(context.Background(), Config{Settings: testSettings})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.URL("postgres"), s.home.path, s.watchdog.cmd.Process.Pid)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends, should it die before it kills us
	os.Exit(1)
}

// A holder is another process with a server.
type holder struct {
	cmd      *exec.Cmd
	out      io.Reader
	url      string
	folder   string
	watchdog int
}

// startHolder runs a holder whose folders are made in base.
func startHolder(t *testing.T, base string) *holder {
	t.Helper()
	h := launchHolder(t, base)
	h.awaitReady(t)
	return h
}

// launchHolder does not wait for the server.
func launchHolder(t *testing.T, base string) *holder {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderVariable+"=1", "TMPDIR="+base)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // A terminal's foreground job.
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &holder{cmd: cmd, out: out}
	t.Cleanup(h.kill)
	return h
}

func (h *holder) awaitReady(t *testing.T) {
	t.Helper()
	line, err := bufio.NewReader(h.out).ReadString('\n')
	if err != nil {
		t.Fatalf("read from the holder: %v", err)
	}
	if _, err := fmt.Sscan(line, &h.url, &h.folder, &h.watchdog); err != nil {
		t.Fatalf("the holder said %q: %v", line, err)
	}
}

// kill is kill -9. A second call does nothing.
func (h *holder) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

// query asks a server for one value.
func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(ctx)
	var value T
	if err := conn.QueryRow(ctx, sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// awaitGone waits until nothing listens at the server's address and its folder does not exist.
func awaitGone(t *testing.T, serverURL, folder string) {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the server to end", func() bool {
		conn, err := net.Dial("tcp", u.Host)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	await(t, "the folder to go", func() bool {
		_, err := os.Stat(folder)
		return os.IsNotExist(err)
	})
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// openFolder is a temporary folder that every user can use. The one of testing is closed to others.
func openFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "embeddedpg-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	return folder
}

// homes lists the servers' folders in base.
func homes(t *testing.T, base string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(base, homePrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// writeScript makes an executable that every user can run.
func writeScript(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+strings.TrimLeft(text, "\n")), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

// saysInOneLine fails the test unless the error says each of the words, and says them in one line.
func saysInOneLine(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %v", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
}
