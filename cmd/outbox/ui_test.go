package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// startUI serves the dashboard until the test ends, and returns where. log is written until then.
func startUI(t *testing.T, log io.Writer, args ...string) (url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := Run(ctx, append([]string{"ui", "--listen", "127.0.0.1:0"}, args...), writer, log)
		_ = writer.CloseWithError(errors.Join(err, io.EOF))
		done <- err
	}()
	stop = func() error {
		cancel()
		return <-done
	}
	line, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		t.Fatalf("it ends with %v", stop())
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "The dashboard is at ")), stop
}

func ask(t *testing.T, url string, header ...string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestUI(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	url, stop := startUI(t, t.Output(), "--database-url", db.URL)
	if status, body := ask(t, url); status != 200 || !strings.Contains(body, "No subscription yet") {
		t.Errorf("%d\n%s", status, body)
	}
	if status, _ := ask(t, url, "Host", "evil.example"); status != http.StatusMisdirectedRequest {
		t.Errorf("under another name: %d", status)
	}
	// Somebody who watches does not hold up its end.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || line != "event: page\n" {
		t.Errorf("the stream begins with %q, %v", line, err)
	}
	if err := stop(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

func TestUIClosed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const token = "correct-horse-battery"
	url, stop := startUI(t, t.Output(), "--database-url", db.URL, "--token", token, "--read-only", "--listen", "0.0.0.0:0")
	if status, body := ask(t, url); status != http.StatusUnauthorized || strings.Contains(body, "subscription yet") {
		t.Errorf("without the token: %d\n%s", status, body)
	}
	if status, body := ask(t, url, "Authorization", "Bearer "+token, "Host", "outbox.example"); status != 200 || !strings.Contains(body, "read-only") {
		t.Errorf("with the token: %d\n%s", status, body)
	}
	if err := stop(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

func TestUIRefuses(t *testing.T) {
	t.Parallel()
	db, empty := pgtest.New(t), pgtest.NewEmpty(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	for name, test := range map[string]struct {
		args  []string
		want  string
		usage bool
	}{
		"open to everybody": {[]string{"--listen", ":0", "--database-url", db.URL}, ":0 can be reached from elsewhere, and the dashboard shows every payload: set SIGNALBOX_UI_TOKEN", false},
		"short token":       {[]string{"--listen", ":0", "--token", "guess", "--database-url", db.URL}, "Token has 5 bytes, must have at least 16", true},
		"half a user":       {[]string{"--listen", "127.0.0.1:0", "--user", "ada", "--database-url", db.URL}, "need each other", true},
		"in use":            {[]string{"--listen", taken.Addr().String(), "--database-url", db.URL}, "choose another address with --listen", false},
		"without URL":       {[]string{"--listen", "127.0.0.1:0", "--database-url", ""}, "DATABASE_URL is not set", false},
		"without schema":    {[]string{"--listen", "127.0.0.1:0", "--database-url", empty.URL}, `run "outbox migrate"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, err := run(t, append([]string{"ui"}, test.args...)...)
			var usage *cli.UsageError
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || errors.As(err, &usage) != test.usage || stdout != "" {
				t.Errorf("got %v, want one line with %q, of wrong usage: %t; standard output: %s", err, test.want, test.usage, stdout)
			}
		})
	}
}

func TestUIHelp(t *testing.T) {
	t.Parallel()
	var help strings.Builder
	if err := Run(t.Context(), []string{"ui", "--help"}, &help, io.Discard); !errors.Is(err, cli.ErrHelp) {
		t.Fatal(err)
	}
	for _, want := range []string{"SIGNALBOX_UI_TOKEN", "SIGNALBOX_UI_PASSWORD", "--read-only", "127.0.0.1:8090"} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, &help)
		}
	}
}
