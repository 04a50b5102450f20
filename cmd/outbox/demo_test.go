package main

import (
	"encoding/json"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/signalbox-go/signalbox/internal/demo"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// parseResult reads the one line on standard output.
func parseResult(t *testing.T, stdout string) *demo.Report {
	t.Helper()
	if strings.Count(stdout, "\n") != 1 || !strings.HasSuffix(stdout, "}\n") {
		t.Fatalf("standard output is not one line: %q", stdout)
	}
	var report demo.Report
	decoder := json.NewDecoder(strings.NewReader(stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&report); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	return &report
}

func checkResult(t *testing.T, r *demo.Report) {
	t.Helper()
	if r.Published < 10 || r.Latency.P50 <= 0 || r.Latency.P99 < r.Latency.P50 || len(r.Subscriptions) != 2 {
		t.Errorf("result: %+v", r)
	}
	for _, name := range []string{"log", "audit"} {
		if s := r.Subscriptions[name]; s.Delivered != r.Published || s.Missing != 0 || s.Duplicates != 0 {
			t.Errorf("%s: %+v of %d", name, s, r.Published)
		}
	}
}

// Twice at once, each with a database of its own.
func TestDemo(t *testing.T) {
	t.Parallel()
	var demos sync.WaitGroup
	for range 2 {
		demos.Go(func() {
			var stdout, story strings.Builder
			args := []string{"demo", "--for", "2s", "--json", "--listen", "127.0.0.1:0", "--database-url", ""}
			if err := Run(t.Context(), args, &stdout, &story); err != nil {
				t.Errorf("%v\n%s", err, &story)
				return
			}
			checkResult(t, parseResult(t, stdout.String()))
			for _, want := range []string{"psql 'postgres://postgres:", "curl -X POST http://127.0.0.1:", "log-1", "audit-2", "dashboard  http://127.0.0.1:", "✔ Every published event reached every subscription"} {
				if !strings.Contains(story.String(), want) {
					t.Errorf("the story lacks %q:\n%s", want, &story)
				}
			}
		})
	}
	demos.Wait()
}

// In a database of somebody's, without a schema yet, and without --json.
func TestDemoInDatabase(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"outbox", "billing"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			demoInDatabase(t, name)
		})
	}
}

func demoInDatabase(t *testing.T, name string) {
	db := pgtest.NewEmpty(t)
	stdout, err := run(t, "demo", "--for", "1s", "--listen", "127.0.0.1:0", "--database-url", db.URL, "--outbox", name)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{name + ": from version 0 to ", "their events in " + name + ".events", "yours:", "missing", "✔"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the story lacks %q:\n%s", want, stdout)
		}
	}
	password, _, _ := strings.Cut(strings.SplitN(db.URL, ":", 3)[2], "@")
	if strings.Contains(stdout, password) {
		t.Errorf("the story has somebody's password in it:\n%s", stdout)
	}
	var left int
	if err := db.Pool.QueryRow(t.Context(), "select count(*) from "+name+".subscriptions").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d subscriptions left (%v)", left, err)
	}
}

func TestUsualPortIsTaken(t *testing.T) {
	t.Parallel()
	if usual, err := net.Listen("tcp", defaultListen); err == nil { // else somebody else has it, which is as good
		defer func() { _ = usual.Close() }()
	}
	var story strings.Builder
	listener, err := (&demoCommand{}).listen(&story)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	if !strings.Contains(story.String(), defaultListen+" is taken") || !strings.Contains(story.String(), listener.Addr().String()) {
		t.Errorf("it listens on %s and says %q", listener.Addr(), &story)
	}
}
