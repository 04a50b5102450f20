package producer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/producer"
)

// A call is a request and what it is answered with.
type call struct {
	method, path string
	header       http.Header
	body         io.Reader

	code   int
	reason string      // part of the error
	want   http.Header // of the answer
}

// run sends the request, checks the answer and returns it decoded.
func (c call) run(t *testing.T, handler http.Handler) map[string]any {
	t.Helper()
	body := c.body
	if body == nil {
		body = http.NoBody
	}
	request := httptest.NewRequestWithContext(t.Context(), c.method, c.path, body)
	for name, values := range c.header {
		request.Header[name] = values
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)

	if recorder.Code != c.code {
		t.Errorf("got status %d, want %d: %s", recorder.Code, c.code, recorder.Body)
	}
	if got := recorder.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("got Content-Type %q", got)
	}
	for name := range c.want {
		if got, want := recorder.Header().Get(name), c.want.Get(name); got != want {
			t.Errorf("got %s %q, want %q", name, got, want)
		}
	}
	var answer map[string]any
	if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
		t.Fatalf("the answer is not a JSON object: %v: %s", err, recorder.Body)
	}
	reason, _ := answer["error"].(string)
	if (c.code >= 400) != (reason != "" && len(answer) == 1) {
		t.Errorf("status %d comes with %v", c.code, answer)
	}
	if !strings.Contains(reason, c.reason) {
		t.Errorf("got error %q, want one with %q", reason, c.reason)
	}
	return answer
}

func contentType(value string) http.Header { return http.Header{"Content-Type": {value}} }

var (
	asJSON = contentType("application/json")
	lines  = contentType("application/x-ndjson")
)

// quiet keeps the log of expected failures out of the tests' output.
func quiet(pool *pgxpool.Pool) *producer.Handler {
	return producer.NewHandler(pool, producer.Config{Logger: slog.New(slog.DiscardHandler)})
}

func TestIngest(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool
	var log bytes.Buffer
	handler := producer.NewHandler(pool, producer.Config{
		Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	body := `{"name": "temperature <°C>", "value": 21.5, "timestamp": "2026-11-22T12:00:00.5+02:00"}`
	answer := call{method: "POST", path: "/ingest", header: asJSON, body: strings.NewReader(body), code: 200}.run(t, handler)

	signal, event := answer["signal"].(map[string]any), answer["event"].(map[string]any)
	if signal["name"] != "temperature <°C>" || signal["value"] != 21.5 || signal["timestamp"] != "2026-11-22T10:00:00.5Z" {
		t.Errorf("got signal %v", signal)
	}
	if event["topic"] != "signals.created" || event["key"] != signal["name"] || fmt.Sprint(event["payload"]) != fmt.Sprint(signal) {
		t.Errorf("got event %v, want one with the signal %v", event, signal)
	}
	var same bool
	const find = `
		select s.name = $2 and e.key = $2 and e.payload->>'name' = $2
		from public.signals s, outbox.events e where s.id = $1 and e.id = $3`
	if err := pool.QueryRow(t.Context(), find, signal["id"], signal["name"], event["id"]).Scan(&same); err != nil || !same {
		t.Errorf("the ids of the answer do not lead to the rows: %t, %v", same, err)
	}
	checkCounts(t, pool, 1, 1)
	if got := log.String(); !strings.Contains(got, `"level":"DEBUG","msg":"signal stored"`) || strings.Count(got, "\n") != 1 {
		t.Errorf("got log %s", got)
	}
}

func TestIngestEmptyBodyIsRandom(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool
	handler := quiet(pool)
	// curl -X POST, curl -d '', and a body of unknown length that turns out to be empty.
	for i, c := range []call{{}, {header: contentType("application/x-www-form-urlencoded")}, {body: io.MultiReader()}} {
		c.method, c.path, c.code = "POST", "/ingest", 200
		answer := c.run(t, handler)
		if signal := answer["signal"].(map[string]any); signal["name"] == "" {
			t.Errorf("got %v", answer)
		}
		checkCounts(t, pool, i+1, i+1)
	}
}

func TestIngestBatch(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool
	handler := quiet(pool)
	for i, c := range []call{
		{header: asJSON, body: strings.NewReader(`[{"name":"a","value":1}, {"name":"b","value":2}]`)},
		{header: contentType("application/json; charset=UTF-8"), body: strings.NewReader(`[{"name":"a","value":1}, {"name":"b","value":2}]`)},
		{header: lines, body: strings.NewReader("{\"name\":\"a\",\"value\":1}\r\n\n{\"name\":\"b\",\"value\":2}")},
	} {
		c.method, c.path, c.code = "POST", "/ingest/batch", 200
		answer := c.run(t, handler)
		if answer["count"] != 2.0 || len(answer["signal_ids"].([]any)) != 2 || len(answer["event_ids"].([]any)) != 2 {
			t.Errorf("got %v", answer)
		}
		checkCounts(t, pool, 2*(i+1), 2*(i+1))
	}

	most := strings.NewReader(strings.Repeat("{\"name\":\"a\",\"value\":1}\n", producer.MaxBatch))
	answer := call{method: "POST", path: "/ingest/batch", header: lines, body: most, code: 200}.run(t, handler)
	if answer["count"] != float64(producer.MaxBatch) {
		t.Errorf("got count %v", answer["count"])
	}
	checkCounts(t, pool, 6+producer.MaxBatch, 6+producer.MaxBatch)
}

// Every refusal, with the status, the reason and the headers, and without a trace in the database.
func TestRefusals(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool
	handler := quiet(pool)
	text := func(s string) io.Reader { return strings.NewReader(s) }
	good := func() io.Reader { return text(`{"name":"n","value":1}`) }
	const limit, batchLimit = 1 << 20, 16 << 20
	closes := http.Header{"Connection": {"close"}}

	for name, c := range map[string]call{
		"unknown path":   {method: "GET", path: "/", code: 404, reason: "POST /ingest"},
		"trailing slash": {method: "POST", path: "/ingest/", code: 404},
		"GET ingest":     {method: "GET", path: "/ingest", code: 405, reason: "/ingest takes POST", want: http.Header{"Allow": {"POST"}}},
		"PUT batch":      {method: "PUT", path: "/ingest/batch", body: good(), code: 405, want: http.Header{"Allow": {"POST"}}},
		"POST healthz":   {method: "POST", path: "/healthz", code: 405, want: http.Header{"Allow": {"GET, HEAD"}}},
		"DELETE readyz":  {method: "DELETE", path: "/readyz", code: 405, want: http.Header{"Allow": {"GET, HEAD"}}},

		"no type":         {method: "POST", path: "/ingest", body: good(), code: 415, reason: "Content-Type: application/json"},
		"form":            {method: "POST", path: "/ingest", header: contentType("application/x-www-form-urlencoded"), body: good(), code: 415},
		"lines to ingest": {method: "POST", path: "/ingest", header: lines, body: good(), code: 415},
		"broken type":     {method: "POST", path: "/ingest", header: contentType("application/json; charset"), body: good(), code: 415},
		"charset":         {method: "POST", path: "/ingest", header: contentType("application/json; charset=latin1"), body: good(), code: 415},
		"compressed": {
			method: "POST", path: "/ingest", body: good(), code: 415,
			header: http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}},
		},
		"text batch": {method: "POST", path: "/ingest/batch", header: contentType("text/plain"), body: good(), code: 415, reason: "application/x-ndjson"},

		"too large": {method: "POST", path: "/ingest", header: asJSON, body: text(strings.Repeat(" ", limit+1)), code: 413, reason: "1048576 bytes", want: closes},
		// Malformed and of another type as well, but that is not looked at.
		"too large by far": {method: "POST", path: "/ingest", body: &endless{t, limit + 1}, code: 413, want: closes},
		"batch too large":  {method: "POST", path: "/ingest/batch", header: lines, body: &endless{t, batchLimit + 1}, code: 413, reason: "16777216 bytes", want: closes},
		"large, not too":   {method: "POST", path: "/ingest", header: asJSON, body: text(strings.Repeat("x", limit)), code: 400, reason: "malformed JSON"},

		"cut off":      {method: "POST", path: "/ingest", header: asJSON, body: io.MultiReader(good(), broken{}), code: 400, reason: "cannot be read"},
		"malformed":    {method: "POST", path: "/ingest", header: asJSON, body: text(`{"name":`), code: 400, reason: "malformed JSON"},
		"batch to one": {method: "POST", path: "/ingest", header: asJSON, body: text(`[{"name":"n","value":1}]`), code: 400, reason: "a signal is a JSON object"},
		"one to batch": {method: "POST", path: "/ingest/batch", header: asJSON, body: good(), code: 400, reason: "not a JSON array"},
		"no batch":     {method: "POST", path: "/ingest/batch", code: 400, reason: "empty"},
		"empty array":  {method: "POST", path: "/ingest/batch", header: asJSON, body: text(` [] `), code: 400, reason: "empty"},
		"empty lines":  {method: "POST", path: "/ingest/batch", header: lines, body: text("\n\r\n"), code: 400, reason: "empty"},
		"bad line": {
			method: "POST", path: "/ingest/batch", header: lines, code: 400, reason: "line 3: value is missing",
			body: text("{\"name\":\"n\",\"value\":1}\n\n{\"name\":\"n\"}\n"),
		},
		"bad element": {
			method: "POST", path: "/ingest/batch", header: asJSON, code: 400, reason: "[1] on line 3: value is not a number",
			body: text("[\n{\"name\":\"n\",\"value\":1},\n{\"name\":\"n\",\"value\":\"1\"}]"),
		},
		"a line too many": {
			method: "POST", path: "/ingest/batch", header: lines, code: 400, reason: "line 10001: a batch has at most 10000 signals",
			body: text(strings.Repeat("{\"name\":\"n\",\"value\":1}\n", producer.MaxBatch+1)),
		},
		"an element too many": {
			method: "POST", path: "/ingest/batch", header: asJSON, code: 400, reason: "[10000] on line 1: a batch has at most 10000 signals",
			body: text("[" + strings.Repeat(`{"name":"n","value":1},`, producer.MaxBatch) + "0]"),
		},
	} {
		t.Run(name, func(t *testing.T) { c.run(t, handler) })
	}
	checkCounts(t, pool, 0, 0)
}

// endless is a body that never ends, and of which at most so many bytes may be read.
type endless struct {
	t    *testing.T
	left int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		e.t.Error("the body is read beyond the limit")
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	clear(p[:n])
	e.left -= n
	return n, nil
}

// broken is a connection that ends in the middle of a body.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

// A body that announces that it is too large is not read at all.
func TestTooLargeAtOnce(t *testing.T) {
	t.Parallel()
	request := httptest.NewRequestWithContext(t.Context(), "POST", "/ingest", &endless{t, 0})
	request.ContentLength = producer.MaxBody + 1
	recorder := httptest.NewRecorder()
	quiet(nil).ServeHTTP(recorder, request)
	if recorder.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d: %s", recorder.Code, recorder.Body)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool
	handler := quiet(pool)
	call{method: "GET", path: "/healthz", code: 200}.run(t, handler)
	call{method: "HEAD", path: "/healthz", code: 200}.run(t, handler)
	call{method: "GET", path: "/readyz", code: 200}.run(t, handler)

	again := http.Header{"Retry-After": {"1"}}
	execute(t, pool, `insert into outbox.events (topic, payload) values ('a', '1'), ('a', '2')`)
	execute(t, pool, `select setval('outbox.events_id_seq', 1)`)
	call{method: "GET", path: "/readyz", code: 503, reason: "sequences are behind its tables", want: again}.run(t, handler)
	execute(t, pool, `update outbox.cluster set system_identifier = 1`)
	call{method: "GET", path: "/readyz", code: 503, reason: "restored from a dump, replicated", want: again}.run(t, handler)
	execute(t, pool, `update public.signalbox_signals_version set version = 99`)
	call{method: "GET", path: "/readyz", code: 503, reason: "signals schema is at version 99", want: again}.run(t, handler)
	execute(t, pool, `drop table public.signalbox_outbox_version`)
	call{method: "GET", path: "/readyz", code: 503, reason: `run "outbox migrate"`, want: again}.run(t, handler)
	call{method: "GET", path: "/healthz", code: 200}.run(t, handler)
}

// A replica, or a database that was made read-only, is not ready, and its clients are to try again.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	config := pgtest.New(t).Pool.Config()
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	handler := quiet(pool)
	again := http.Header{"Retry-After": {"1"}}
	call{method: "GET", path: "/readyz", code: 503, reason: "takes no writes", want: again}.run(t, handler)
	call{method: "POST", path: "/ingest", code: 503, reason: "takes no writes", want: again}.run(t, handler)
	call{method: "GET", path: "/healthz", code: 200}.run(t, handler)
}

// Errors of our own say nothing of the inside, which is in the log, and undo what came before them.
func TestInternalError(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, pool *pgxpool.Pool){
		"publish": func(t *testing.T, pool *pgxpool.Pool) {
			execute(t, pool, `alter table outbox.events add constraint broken check (topic <> 'signals.created')`)
		},
		"commit": func(t *testing.T, pool *pgxpool.Pool) { atCommit(t, pool, `raise exception 'broken'`) },
	}
	for name, sabotage := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t).Pool
			sabotage(t, pool)
			var log bytes.Buffer
			handler := producer.NewHandler(pool, producer.Config{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
			answer := call{method: "POST", path: "/ingest", code: 500}.run(t, handler)
			if answer["error"] != "internal error" {
				t.Errorf("got %v", answer)
			}
			if got := log.String(); !strings.Contains(got, `"level":"ERROR"`) || !strings.Contains(got, "broken") {
				t.Errorf("the log lacks the reason: %s", got)
			}
			checkCounts(t, pool, 0, 0)
		})
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool
	again := http.Header{"Retry-After": {"1"}}

	t.Run("too slow", func(t *testing.T) {
		handler := producer.NewHandler(pool, producer.Config{
			Logger: slog.New(slog.DiscardHandler), Timeout: 50 * time.Millisecond,
		})
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(t.Context()) }()
		if _, err := tx.Exec(t.Context(), `lock table outbox.events in exclusive mode`); err != nil {
			t.Fatal(err)
		}
		call{method: "POST", path: "/ingest", code: 503, reason: "cannot be reached", want: again}.run(t, handler)
	})
	t.Run("session lost at commit", func(t *testing.T) {
		atCommit(t, pool, `perform pg_terminate_backend(pg_backend_pid())`)
		call{method: "POST", path: "/ingest", code: 503, reason: "outcome unknown", want: again}.run(t, quiet(pool))
	})
	checkCounts(t, pool, 0, 0)
}

// What is told of stored signals may break: they are stored, and the client learns that.
func TestStoredBreaks(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool
	for how, broken := range map[string]func(){"panic": func() { panic("out of order") }, "goexit": runtime.Goexit} {
		t.Run(how, func(t *testing.T) {
			handler := producer.NewHandler(pool, producer.Config{
				Logger: slog.New(slog.DiscardHandler), Stored: func([]producer.Stored) { broken() },
			})
			call{method: "POST", path: "/ingest", code: 200}.run(t, handler)
		})
	}
}
