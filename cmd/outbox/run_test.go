package main

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
)

// run runs a command and returns its standard output.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var stdout strings.Builder
	err := Run(t.Context(), args, &stdout, t.Output())
	return stdout.String(), err
}

// What cannot work is said in one line.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	empty, older, newer, newerSignals := pgtest.NewEmpty(t), pgtest.New(t), pgtest.New(t), pgtest.New(t)
	if _, err := newerSignals.Pool.Exec(t.Context(), `update public.signalbox_signals_version set version = 99`); err != nil {
		t.Fatal(err)
	}
	for db, version := range map[*pgtest.DB]int{older: 0, newer: 99} {
		if _, err := db.Pool.Exec(t.Context(), `update public.signalbox_outbox_version set version = $1`, version); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // after the tests below, which run in parallel
	const nobody = "postgres://127.0.0.1:1/d"

	for name, test := range map[string]struct {
		args  []string
		want  string
		usage bool
	}{
		"no command":             {nil, "expected one of", true},
		"unknown command":        {[]string{"explode"}, "unexpected argument explode", true},
		"stray argument":         {[]string{"status", "now"}, "unexpected argument now", true},
		"unknown flag":           {[]string{"status", "--jason"}, "unknown flag --jason", true},
		"unknown set":            {[]string{"migrate", "--set", "all"}, "--set must be one of", true},
		"rate of no number":      {[]string{"demo", "--rate", "fast"}, "--rate", true},
		"negative rate":          {[]string{"demo", "--rate=-1"}, "--rate is -1, must be at least 0", true},
		"no duration":            {[]string{"demo", "--for", "10"}, "--for", true},
		"negative duration":      {[]string{"demo", "--for=-1s"}, `--for: "-1s" must be a duration of more than 0`, true},
		"no workers":             {[]string{"demo", "--workers", "0"}, "--workers is 0, must be 1 to 32", true},
		"too many workers":       {[]string{"demo", "--workers", "33"}, "--workers is 33", true},
		"listen in use":          {[]string{"demo", "--listen", taken.Addr().String()}, "choose another address with --listen", false},
		"listen nowhere":         {[]string{"demo", "--listen", "here"}, "choose another address with --listen", false},
		"demo unreachable":       {[]string{"demo", "--listen", "127.0.0.1:0", "--database-url", nobody}, "no PostgreSQL answers at 127.0.0.1:1", false},
		"demo with newer schema": {[]string{"demo", "--listen", "127.0.0.1:0", "--database-url", newer.URL}, "outbox schema is at version 99", false},
		"migrate without URL":    {[]string{"migrate", "--database-url", ""}, "DATABASE_URL is not set", false},
		"migrate unreachable":    {[]string{"migrate", "--database-url", nobody}, "no PostgreSQL answers at 127.0.0.1:1", false},
		"migrate newer schema":   {[]string{"migrate", "--database-url", newer.URL}, "newer than this binary's", false},
		"migrate newer signals":  {[]string{"migrate", "--set", "signals", "--database-url", newerSignals.URL}, "signals schema is at version 99, newer than this binary's", false},
		"status without URL":     {[]string{"status", "--database-url", ""}, "DATABASE_URL is not set", false},
		"status unreachable":     {[]string{"status", "--database-url", nobody}, "no PostgreSQL answers at 127.0.0.1:1", false},
		"status malformed URL":   {[]string{"status", "--database-url", "postgres://a:b:c@d:e"}, "DATABASE_URL is malformed", false},
		"status without schema":  {[]string{"status", "--database-url", empty.URL}, `outbox schema is missing in this database: run "outbox migrate"`, false},
		"status of older schema": {[]string{"status", "--database-url", older.URL}, `run "outbox migrate"`, false},
		"status of newer schema": {[]string{"status", "--json", "--database-url", newer.URL}, "upgrade the binary", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, err := run(t, test.args...)
			var usage *cli.UsageError
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || errors.As(err, &usage) != test.usage {
				t.Errorf("got %v, want one line with %q, of wrong usage: %t", err, test.want, test.usage)
			}
			if stdout != "" {
				t.Errorf("standard output: %s", stdout)
			}
		})
	}
	// Refused is refused: nothing was migrated on the way.
	if err := migrations.Outbox.Check(t.Context(), empty.Pool); !errors.Is(err, migrations.ErrMissing) {
		t.Errorf("the empty database: %v", err)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for command, wants := range map[string][]string{
		"":        {"outbox demo", "outbox db", "curl -X POST localhost:8080/ingest", "migrate", "status"},
		"demo":    {"outbox demo --for unlimited", "--rate=20", "$SIGNALBOX_RATE", "$SIGNALBOX_LISTEN", "--workers=2", `"latency_ms"`, "$DATABASE_URL"},
		"db":      {"DATABASE_URL=", "worker --subscription log", "SIGNALBOX_PG_BIN"},
		"migrate": {"outbox migrate --set outbox", "$SIGNALBOX_SET", "tern"},
		"status":  {"outbox status --json | jq", "polling", "$SIGNALBOX_JSON"},
	} {
		args := []string{"--help"}
		if command != "" {
			args = []string{command, "--help"}
		}
		var help strings.Builder
		if err := Run(t.Context(), args, &help, io.Discard); !errors.Is(err, cli.ErrHelp) {
			t.Errorf("%s: got %v", command, err)
		}
		for _, want := range wants {
			if !strings.Contains(help.String(), want) {
				t.Errorf("help of %q lacks %q:\n%s", command, want, &help)
			}
		}
	}
}
