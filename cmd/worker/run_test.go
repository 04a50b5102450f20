package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/producer"
)

// A logLine is what a test looks at of the log.
type logLine struct {
	Msg       string
	Address   string
	EventID   int64 `json:"event_id"`
	Name      string
	Value     float64
	Timestamp time.Time
	Topic     string
	Payload   string
	Attempt   int
	Others    int
	Error     string
}

// A running worker writes its log here.
type running struct {
	stop func() error

	mu    sync.Mutex
	lines []logLine
	grew  chan struct{}
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Run(ctx, args, io.Discard, write)
		_ = write.Close()
		ended <- err
	}()
	r := &running{grew: make(chan struct{}, 1)}
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = r.stop() })
	go r.collect(read)
	return r
}

// collect reads the log to its end.
func (r *running) collect(log io.Reader) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20) // stacks are long
	for lines.Scan() {
		var line logLine
		_ = json.Unmarshal(lines.Bytes(), &line)
		r.mu.Lock()
		r.lines = append(r.lines, line)
		r.mu.Unlock()
		select {
		case r.grew <- struct{}{}:
		default:
		}
	}
}

// await returns the first n lines with a message.
func (r *running) await(t *testing.T, message string, n int) []logLine {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		r.mu.Lock()
		var found []logLine
		for _, line := range r.lines {
			if line.Msg == message {
				found = append(found, line)
			}
		}
		r.mu.Unlock()
		if len(found) >= n {
			return found
		}
		select {
		case <-r.grew:
		case <-deadline:
			t.Fatalf("%d lines %q, want %d", len(found), message, n)
		}
	}
}

// slowly stores a slow signal, and returns while the handler is in the middle of it. One that a busy machine does not see in time is followed by
// another.
func (r *running) slowly(t *testing.T, db *pgtest.DB) {
	t.Helper()
	stored := 0
	eventually(t, time.Minute, "the handler is in the middle of it", func() bool {
		handled := 0
		r.mu.Lock()
		for _, line := range r.lines {
			if line.Msg == "notification received" {
				handled++
			}
		}
		r.mu.Unlock()
		if handled < stored {
			return left(t, db)["slow"].State == outbox.Running
		}
		if _, err := producer.Store(t.Context(), db.Pool, producer.Signal{Name: "slow", Value: 1}); err != nil {
			t.Fatal(err)
		}
		stored++
		return false
	})
}

func TestLogsSignals(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	stored, err := producer.Store(t.Context(), db.Pool, producer.Signal{Name: "temperature", Value: 21.5}, producer.Signal{Name: "humidity", Value: 40})
	if err != nil {
		t.Fatal(err)
	}
	first := start(t, "--database-url", db.URL, "--subscription", "log", "--admin", "127.0.0.1:0")
	want := map[int64]producer.Signal{}
	for _, s := range stored {
		want[s.Event.ID] = s.Signal
	}
	for _, line := range first.await(t, "notification received", 2) {
		if signal := want[line.EventID]; signal.Name != line.Name || signal.Value != line.Value || !signal.Timestamp.Equal(line.Timestamp) {
			t.Errorf("logged %+v, want %+v", line, signal)
		}
	}
	adminURL := "http://" + first.await(t, "admin is listening", 1)[0].Address
	awaitAnswer(t, adminURL+"/healthz", `{"status":"ok"}`)
	awaitAnswer(t, adminURL+"/readyz", `{"status":"ready"}`)

	// Its metrics, on the same address, know what it did.
	for path, wants := range map[string][]string{
		"/metrics": {
			`signalbox_delivered_total{outbox="outbox",subscription="log",topic="signals.created"} 2`, `signalbox_up{outbox="outbox"} 1`,
			`signalbox_lag_events{outbox="outbox",subscription="log"} 0`, `signalbox_pool_max_connections{outbox="outbox"} 16`,
			"go_goroutines ", "process_cpu_seconds_total ",
		},
		"/debug/pprof/goroutine?debug=1": {"signalbox/worker.(*Worker).Run"},
	} {
		for _, want := range wants {
			awaitAnswer(t, adminURL+path, want)
		}
	}

	// Another name sees the same events; what is no signal is logged as it is.
	if _, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "signals.other", Payload: json.RawMessage(`[1]`)}); err != nil {
		t.Fatal(err)
	}
	second := start(t, "--database-url", db.URL, "--subscription", "audit")
	other := false
	for _, line := range second.await(t, "notification received", 3) {
		other = other || line.Topic == "signals.other" && line.Payload == "[1]"
	}
	if !other {
		t.Error("the event that is no signal was not logged")
	}
	for _, r := range []*running{first, second} {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}
	status, err := admin.GetStatus(t.Context(), db.Pool)
	if err != nil || len(status.Workers) != 0 {
		t.Errorf("%d workers are left, %v", len(status.Workers), err)
	}
}

// awaitAnswer asks until the answer is OK and has what is wanted.
func awaitAnswer(t *testing.T, url, want string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK && strings.Contains(string(body), want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s answers %d without %q:\n%s", url, response.StatusCode, want, body)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// One that is stopped says that it waits for what is running, does so, and says when it has.
func TestStops(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := start(t, "--database-url", db.URL, "--subscription", "s", "--handler", "flaky")
	r.slowly(t, db)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for _, message := range []string{"stopping: handlers that are running may finish", "notification received", "stopped"} {
		r.await(t, message, 1)
	}
}

func TestTopics(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := start(t, "--database-url", db.URL, "--subscription", "s", "--topics", "a.*", "--topics", "b")
	r.await(t, "serving", 1)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// Left out, they stay what they are; a worker of others leaves them alone, and says what to do.
	r = start(t, "--database-url", db.URL, "--subscription", "s")
	r.await(t, "serving", 1)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, "--database-url", db.URL, "--subscription", "s", "--topics", "c")
	r.await(t, "this worker does not know all topics of the subscription: it leaves the lanes to workers that do", 1)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// Which sees what the first one has passed.
	if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, payload) values ('a.x', '1'), ('c', '2'), ('c', '3')`); err != nil {
		t.Fatal(err)
	}
	r = start(t, "--database-url", db.URL, "--subscription", "s")
	r.await(t, "notification received", 1)
	eventually(t, 20*time.Second, "the first one is at the end of the log", func() bool { return settled(t, db.Pool) })
	added := start(t, "--database-url", db.URL, "--subscription", "s-added", "--topics", "c")
	added.await(t, "notification received", 2)
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	empty, half := pgtest.NewEmpty(t), pgtest.NewEmpty(t)
	if err := apply.Up(t.Context(), half.Conn(t), migrations.Outbox); err != nil {
		t.Fatal(err)
	}
	newer, newerSignals, olderSignals := pgtest.New(t), pgtest.New(t), pgtest.New(t)
	for db, sql := range map[*pgtest.DB]string{
		newer:        `update public.signalbox_outbox_version set version = 99`,
		newerSignals: `update public.signalbox_signals_version set version = 99`,
		olderSignals: `update public.signalbox_signals_version set version = 1`,
	} {
		if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	usage := func(err error) bool { var u *cli.UsageError; return errors.As(err, &u) }
	missing := func(err error) bool { return errors.Is(err, migrations.ErrMissing) }
	says := func(text string) func(error) bool {
		return func(err error) bool { return err != nil && strings.Contains(err.Error(), text) }
	}
	tests := map[string]struct {
		args []string
		want func(error) bool
	}{
		"no subscription":  {[]string{"--database-url", db.URL}, usage},
		"unknown flag":     {[]string{"--subscription", "s", "--nope"}, usage},
		"unknown handler":  {[]string{"--subscription", "s", "--handler", "nope"}, usage},
		"bad duration":     {[]string{"--subscription", "s", "--timeout", "soon"}, usage},
		"no database":      {[]string{"--subscription", "s"}, says("DATABASE_URL is not set")},
		"unreachable":      {[]string{"--subscription", "s", "--database-url", "postgres://u:p@127.0.0.1:1/d"}, says("no PostgreSQL answers at 127.0.0.1:1")},
		"no schema":        {[]string{"--subscription", "s", "--database-url", empty.URL}, missing},
		"no rollups":       {[]string{"--subscription", "s", "--database-url", half.URL, "--handler", "rollup"}, missing},
		"newer schema":     {[]string{"--subscription", "s", "--database-url", newer.URL}, says("outbox schema is at version 99, newer than this binary's")},
		"newer rollups":    {[]string{"--subscription", "s", "--database-url", newerSignals.URL, "--handler", "rollup"}, says("signals schema is at version 99, newer than this binary's")},
		"older rollups":    {[]string{"--subscription", "s", "--database-url", olderSignals.URL, "--handler", "rollup"}, says(`signals schema is at version 1, this binary needs`)},
		"bad topic":        {[]string{"--subscription", "s", "--database-url", db.URL, "--topics", "a..b"}, func(err error) bool { return usage(err) && says("has an empty token")(err) }},
		"bad admin":        {[]string{"--subscription", "s", "--database-url", db.URL, "--admin", "nowhere"}, says("--admin")},
		"rollup of others": {[]string{"--subscription", "s", "--database-url", db.URL, "--handler", "rollup", "--topics", "a.>"}, usage},
		"no name":          {[]string{"--subscription", "", "--database-url", db.URL}, usage},
	}
	for _, flag := range []string{
		"--concurrency=0", "--concurrency=-1", "--timeout=0", "--timeout=-1s", "--max-attempts=0", "--max-attempts=-1", "--initial-interval=0",
		"--initial-interval=-1s", "--retention=0", "--retention=-1h", "--shutdown-timeout=0", "--shutdown-timeout=-1s",
		"--breaker-after=0", "--breaker-after=4", "--rate=-1", "--rate=NaN", "--rate=2e9",
	} {
		name, _, _ := strings.Cut(flag, "=")
		tests[flag] = struct {
			args []string
			want func(error) bool
		}{[]string{"--subscription", "s", "--database-url", db.URL, flag}, func(err error) bool { return usage(err) && says(name)(err) }}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Run(t.Context(), test.args, io.Discard, io.Discard)
			if !test.want(err) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has several lines: %v", err)
			}
		})
	}
}

// TestFlowControl gives the flags that spare what handlers call: a rate, and when the circuit breaker opens.
func TestFlowControl(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, payload string
		events        int
		flags         []string
		msg           string
		lines         int
		least         time.Duration
	}{
		{"rate", `1`, 40, []string{"--handler", "log", "--rate", "10"}, "notification received", 40, 2 * time.Second}, // the first 10 at once
		{
			"breaker", `{"name": "fail"}`, 10,
			[]string{"--handler", "flaky", "--max-attempts", "1", "--breaker-after", "5"},
			"nearly every attempt fails: reading little, and counting no attempt that fails, until they succeed", 1, 0,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			events := make([]outbox.Event, test.events)
			for i := range events {
				events[i] = outbox.Event{Topic: "signals.test", Key: fmt.Sprint("key-", i), Payload: json.RawMessage(test.payload)}
			}
			if _, err := outbox.Publish(t.Context(), db.Pool, events...); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			r := start(t, append([]string{"--database-url", db.URL, "--subscription", "s"}, test.flags...)...)
			r.await(t, test.msg, test.lines)
			if took := time.Since(began); took < test.least {
				t.Errorf("%d events within %v", test.events, took)
			}
		})
	}
}
