package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// start runs the producer and returns its URL, and a function that stops it and returns what Run did.
func start(t *testing.T, args ...string) (string, func() error) {
	t.Helper()
	url, _, stop := startWithAdmin(t, args...)
	return url, stop
}

// startWithAdmin also returns the URL for those who look after it, with --admin.
func startWithAdmin(t *testing.T, args ...string) (url, admin string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Run(ctx, append([]string{"--listen", "127.0.0.1:0"}, args...), io.Discard, write)
		_ = write.Close()
		ended <- err
	}()
	addresses, admins := make(chan string, 1), make(chan string, 1)
	go func() { // reads on, or the producer would block on its log
		defer close(addresses)
		defer close(admins)
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			var line struct{ Msg, Address string }
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Errorf("the log has a line that is not JSON: %s", lines.Text())
			}
			switch line.Msg {
			case "listening":
				addresses <- line.Address
			case "admin is listening":
				admins <- line.Address
			}
		}
	}()
	address, ok := <-addresses
	if !ok {
		t.Fatalf("the producer ended: %v", <-ended)
	}
	if slices.Contains(args, "--admin") {
		if admin, ok = <-admins; !ok {
			t.Fatalf("the producer ended: %v", <-ended)
		}
	}
	return "http://" + address, "http://" + admin, func() error { cancel(); return <-ended }
}

// send requests without keeping the connection, and returns status and body.
func send(t *testing.T, method, url, contentType, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

func TestRun(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	url, stop := start(t, "--database-url", db.URL)

	for _, request := range []struct{ method, path, contentType, body string }{
		{"GET", "/healthz", "", ""},
		{"GET", "/readyz", "", ""},
		{"POST", "/ingest", "", ""},
		{"POST", "/ingest", "application/json", `{"name": "temperature", "value": 21.5}`},
		{"POST", "/ingest/batch", "application/x-ndjson", "{\"name\": \"a\", \"value\": 1}\n{\"name\": \"b\", \"value\": 2}\n"},
	} {
		if code, answer := send(t, request.method, url+request.path, request.contentType, request.body); code != http.StatusOK {
			t.Errorf("%s %s: %d %s", request.method, request.path, code, answer)
		}
	}
	var events int
	const count = `
		select count(*) from outbox.events e join public.signals s on s.id = (e.payload->>'id')::bigint and s.name = e.key
		where e.topic = 'signals.created'`
	if err := db.Pool.QueryRow(t.Context(), count).Scan(&events); err != nil || events != 4 {
		t.Errorf("%d events (%v), want 4", events, err)
	}
	if err := stop(); err != nil {
		t.Errorf("stopped, Run returned %v", err)
	}
}

// What is not for the public is at an address of its own.
func TestAdmin(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	url, admin, stop := startWithAdmin(t, "--database-url", db.URL, "--admin", "127.0.0.1:0")
	for range 3 {
		if code, answer := send(t, "POST", url+"/ingest", "", ""); code != http.StatusOK {
			t.Errorf("%d %s", code, answer)
		}
	}
	batch := `[{"name": "a", "value": 1}, {"name": "b", "value": 2}]`
	if code, answer := send(t, "POST", url+"/ingest/batch", "application/json", batch); code != http.StatusOK {
		t.Errorf("%d %s", code, answer)
	}
	if code, _ := send(t, "POST", url+"/ingest", "application/json", `{"value": 1}`); code != http.StatusBadRequest {
		t.Errorf("a signal without a name: %d", code)
	}
	for path, wants := range map[string][]string{
		"/healthz":      {`{"status":"ok"}`},
		"/readyz":       {`{"status":"ready"}`},
		"/debug/pprof/": {"goroutine"},
		"/metrics": {
			`signalbox_published_total{outbox="outbox",topic="signals.created"} 5`, `signalbox_log_ids_total{outbox="outbox"} 5`,
			`signalbox_up{outbox="outbox"} 1`, `signalbox_workers{outbox="outbox"} 0`, `signalbox_pool_max_connections{outbox="outbox"} 16`,
			"go_goroutines ", "process_cpu_seconds_total ",
		},
	} {
		code, answer := send(t, "GET", admin+path, "", "")
		for _, want := range wants {
			if code != http.StatusOK || !strings.Contains(answer, want) {
				t.Errorf("%s: %d without %q:\n%s", path, code, want, answer)
			}
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/cmdline"} {
		if code, _ := send(t, "GET", url+path, "", ""); code != http.StatusNotFound {
			t.Errorf("the public address has %s: %d", path, code)
		}
	}
	if code, _ := send(t, "POST", admin+"/ingest", "", ""); code != http.StatusNotFound {
		t.Errorf("the admin address takes signals: %d", code)
	}
	if err := stop(); err != nil {
		t.Errorf("stopped, Run returned %v", err)
	}
}

// A client that announces too much is answered before it sends.
func TestTooLargeIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	url, stop := start(t, "--database-url", pgtest.New(t).URL)
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusRequestEntityTooLarge || !response.Close {
		t.Errorf("got %s, connection closed: %t", response.Status, response.Close)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// What cannot work is said at the start, in one line.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	empty, ready := pgtest.NewEmpty(t), pgtest.New(t)
	half, newer := pgtest.NewEmpty(t), pgtest.New(t)
	if err := apply.Up(t.Context(), half.Conn(t), migrations.Outbox); err != nil {
		t.Fatal(err)
	}
	newerSignals, olderSignals := pgtest.New(t), pgtest.New(t)
	for db, sql := range map[*pgtest.DB]string{
		newer:        `update public.signalbox_outbox_version set version = 99`,
		newerSignals: `update public.signalbox_signals_version set version = 99`,
		olderSignals: `update public.signalbox_signals_version set version = 1`,
	} {
		if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // after the parallel tests

	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no database":     {[]string{"--database-url", ""}, "DATABASE_URL is not set"},
		"unreachable":     {[]string{"--database-url", "postgres://127.0.0.1:1/d"}, "no PostgreSQL answers at 127.0.0.1:1"},
		"no schema":       {[]string{"--database-url", empty.URL}, `outbox schema is missing in this database: run "outbox migrate"`},
		"half a schema":   {[]string{"--database-url", half.URL}, `signals schema is missing in this database: run "outbox migrate"`},
		"newer schema":    {[]string{"--database-url", newer.URL}, "outbox schema is at version 99, newer than this binary's"},
		"newer signals":   {[]string{"--database-url", newerSignals.URL}, "signals schema is at version 99, newer than this binary's"},
		"older signals":   {[]string{"--database-url", olderSignals.URL}, `signals schema is at version 1, this binary needs`},
		"bad admin":       {[]string{"--database-url", ready.URL, "--listen", "127.0.0.1:0", "--admin", taken.Addr().String()}, "choose another address with --admin"},
		"address in use":  {[]string{"--database-url", ready.URL, "--listen", taken.Addr().String()}, "address already in use"},
		"unknown flag":    {[]string{"--database", ready.URL}, "unknown flag --database"},
		"unknown level":   {[]string{"--log-level", "loud"}, "--log-level must be one of"},
		"stray arguments": {[]string{"serve"}, "unexpected argument serve"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // should it serve after all
			defer cancel()
			err := Run(ctx, test.args, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, test.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var help strings.Builder
	if err := Run(t.Context(), []string{"--help"}, &help, io.Discard); !errors.Is(err, cli.ErrHelp) {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"curl -X POST localhost:8080/ingest", "--listen", "$SIGNALBOX_LISTEN", "$DATABASE_URL"} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("help lacks %q:\n%s", want, help.String())
		}
	}
}
