package producer_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/producer"
)

// PostgreSQL is killed under load and comes back: the handler answers 503 meanwhile and 200 again by itself, and each
// signal that it said it stored is there with its event.
func TestOutage(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	migrate(t, server.URL("postgres"))
	pool, err := pgxpool.New(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	handler := quiet(pool)

	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	var senders sync.WaitGroup
	defer senders.Wait()
	ids := make(chan []int64, 4)
	for range cap(ids) {
		senders.Go(func() {
			var stored []int64
			for ctx.Err() == nil {
				switch reply := post(handler); reply.code {
				case http.StatusOK:
					stored = append(stored, reply.Signal.ID)
				case http.StatusServiceUnavailable:
				default:
					t.Errorf("got status %d: %s", reply.code, reply.Error)
					stop()
				}
			}
			ids <- stored
		})
	}
	await(ctx, t, handler, http.StatusOK)
	if err := syscall.Kill(server.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, handler, http.StatusServiceUnavailable)
	call{method: "GET", path: "/readyz", code: 503, reason: "cannot be reached", want: http.Header{"Retry-After": {"1"}}}.run(t, handler)
	call{method: "GET", path: "/healthz", code: 200}.run(t, handler)
	if err := server.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, handler, http.StatusOK)
	stop()
	senders.Wait()

	var all []int64
	for range cap(ids) {
		all = append(all, <-ids...)
	}
	var lost, alone int
	const check = `
		select (select count(*) from unnest($1::bigint[]) as r (id) where not exists (select from public.signals s where s.id = r.id)),
		       (select count(*) from public.signals s full join outbox.events e on (e.payload->>'id')::bigint = s.id where s.id is null or e.id is null)`
	if err := pool.QueryRow(t.Context(), check, all).Scan(&lost, &alone); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 || lost > 0 || alone > 0 {
		t.Errorf("of %d signals answered with 200, %d are lost; %d rows lack their counterpart", len(all), lost, alone)
	}
}

func migrate(t *testing.T, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, set := range []migrations.Set{migrations.Outbox, migrations.Signals} {
		if err := apply.Up(t.Context(), conn, set); err != nil {
			t.Fatal(err)
		}
	}
}

// A reply is what matters of the answer to a signal.
type reply struct {
	code   int
	Signal producer.Signal
	Error  string
}

func post(handler http.Handler) reply {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/ingest", nil))
	reply := reply{code: recorder.Code}
	if err := json.Unmarshal(recorder.Body.Bytes(), &reply); err != nil {
		reply.Error = err.Error()
	}
	return reply
}

// await sends signals until one is answered with a status.
func await(ctx context.Context, t *testing.T, handler http.Handler, code int) {
	t.Helper()
	for post(handler).code != code {
		if ctx.Err() != nil {
			t.Fatalf("no answer had status %d", code)
		}
	}
}
