package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// A row is what a test looks at of a delivery.
type row struct {
	N       int
	State   string
	Attempt int
	Errors  []admin.Failure
}

// number returns what a statement does.
func number(t *testing.T, db *pgtest.DB, sql string) (n int) {
	t.Helper()
	if err := db.Pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func rows(t *testing.T, db *pgtest.DB) []row {
	t.Helper()
	found, err := db.Pool.Query(t.Context(), `
		select (payload ->> 'n')::integer, state, attempt, errors from outbox.deliveries order by event_id`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(found, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestOutcomes has the first attempts at one event end in every way there is, with a key and without, and checks how often it
// is tried, what is left of it, and that the one behind it waits for it just when it should.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	errNo := errors.New("no")
	tests := []struct {
		name     string
		outcome  func(ctx context.Context, attempt int) error
		stopKey  bool
		attempts int    // how often the handler is called
		state    string // of what is left; "" for nothing
		reason   string // of the last failure
		behind   string // what becomes of the event behind it: "after" it, "free", or "stopped"
	}{
		{"success", func(context.Context, int) error { return nil }, false, 1, "", "", "after"},
		{"error", func(_ context.Context, n int) error {
			if n < 3 {
				return errNo
			}
			return nil
		}, false, 3, "", "", "after"},
		{"panic", func(_ context.Context, n int) error {
			if n < 2 {
				panic("oh")
			}
			return nil
		}, false, 2, "", "", "after"},
		{"timeout", func(ctx context.Context, n int) error {
			if n < 2 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}, false, 2, "", "", "after"},
		{"retry after", func(_ context.Context, n int) error {
			if n < 2 {
				return worker.RetryAfter(time.Millisecond, errNo)
			}
			return nil
		}, false, 2, "", "", "after"},
		{"exhausted", func(context.Context, int) error { return errNo }, false, 4, "dead", "no", "after"},
		{"dead letter", func(context.Context, int) error { return worker.DeadLetter(errNo) }, false, 1, "dead", "no", "after"},
		{"dead letter stops key", func(context.Context, int) error { return worker.DeadLetter(errNo) }, true, 1, "dead", "no", "stopped"},
		{"skip", func(context.Context, int) error { return worker.Skip("not ours") }, true, 1, "skipped", "not ours", "after"},
		{"wrapped", func(context.Context, int) error { return fmt.Errorf("while at it: %w", worker.DeadLetter(errNo)) }, false, 1, "dead", "while at it", "after"},
	}
	type cell struct {
		form
		key string
	}
	var cells []cell
	for _, f := range forms {
		cells = append(cells, cell{f, "k"}, cell{f, ""})
	}
	for _, test := range tests {
		for _, cell := range cells {
			key := cell.key
			t.Run(fmt.Sprintf("%s, %s with key %q", test.name, cell.name, key), func(t *testing.T) {
				t.Parallel()
				db := pgtest.New(t)
				var calls, behindAt atomic.Int64 // calls counts attempts: transactional forms may call twice for one
				s := worker.Subscription{
					Name: "s", Topics: everything, Timeout: 500 * time.Millisecond, StopKeyOnDead: test.stopKey,
					Retry: worker.Retry{MaxAttempts: 4, Delay: func(int) time.Duration { return 10 * time.Millisecond }},
				}
				publish(t, db.Pool, key, 1, 3)
				stop := startForm(t, db, cell.form, s, func(ctx context.Context, _ execer, e *worker.Event[payload]) error {
					if e.Payload.N == 2 {
						behindAt.Store(calls.Load() + 1)
						return nil
					}
					switch n := int(calls.Load()); {
					case e.Attempt == n+1:
						calls.Add(1)
					case e.Attempt != n || !cell.exactly:
						t.Errorf("after attempt %d comes %d", n, e.Attempt)
					}
					return test.outcome(ctx, e.Attempt)
				})
				stopped := test.behind == "stopped" && key != ""
				eventually(t, 20*time.Second, "it is over", func() bool {
					list := rows(t, db)
					if stopped {
						return len(list) == 2 && list[0].State == test.state
					}
					return behindAt.Load() != 0 && calls.Load() >= int64(test.attempts) && settledAll(t, db.Pool) &&
						(test.state == "" && len(list) == 0 || test.state != "" && len(list) == 1 && list[0].State == test.state)
				})
				stop()
				if n := calls.Load(); n != int64(test.attempts) {
					t.Errorf("the handler was called %d times, want %d", n, test.attempts)
				}
				if test.state != "" {
					left := rows(t, db)[0]
					if left.N != 1 || left.Attempt != test.attempts || len(left.Errors) != test.attempts {
						t.Errorf("left is %+v, want event 1 after %d attempts", left, test.attempts)
					}
					if last := left.Errors[len(left.Errors)-1]; !strings.Contains(last.Error, test.reason) || last.Worker == "" || last.At.IsZero() {
						t.Errorf("the last failure is %+v", last)
					}
				}
				switch at := behindAt.Load(); {
				case stopped && at != 0:
					t.Error("the one behind did not wait for a decision")
				case !stopped && key != "" && at != int64(test.attempts)+1:
					t.Errorf("the one behind ran before attempt %d of %d", at, test.attempts)
				}
			})
		}
	}
}

// startForm runs a worker with a handler in one of its forms until the test ends, or until the returned function is called.
func startForm(t *testing.T, db *pgtest.DB, f form, s worker.Subscription, handle func(context.Context, execer, *worker.Event[payload]) error) (stop func()) {
	t.Helper()
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.register(w, s, db, handle); err != nil {
		t.Fatal(err)
	}
	return runUntilStopped(t, w)
}

// TestUndecodable has a payload that is not what the handler takes: it is dead at once, and the handler never sees it.
func TestUndecodable(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "a", Payload: json.RawMessage(`{"n": "one"}`)}); err != nil {
		t.Fatal(err)
	}
	never := func(context.Context, *worker.Event[payload]) error {
		t.Error("the handler was called")
		return nil
	}
	retry := worker.Retry{MaxAttempts: 2, InitialInterval: 10 * time.Millisecond, MaxInterval: 20 * time.Millisecond}
	start(t, db.Pool, worker.Config{}, worker.Subscription{Name: "retried", Topics: everything, Retry: retry}, never)
	start(t, db.Pool, worker.Config{}, worker.Subscription{Name: "dead", Topics: everything, OnDecodeError: worker.DeadLetterDecodeErrors}, never)
	failures := func(subscription, state string, attempt int) (list []admin.Failure) {
		_ = db.Pool.QueryRow(t.Context(), `
			select d.errors
			from outbox.deliveries d join outbox.subscriptions s on s.id = d.subscription_id
			where s.name = $1 and d.state = $2 and d.attempt = $3`, subscription, state, attempt).Scan(&list)
		return list
	}
	eventually(t, 20*time.Second, "it is dead", func() bool { return len(failures("dead", "dead", 1)) == 1 })
	var first []admin.Failure
	eventually(t, 20*time.Second, "it is tried", func() bool { first = failures("retried", "retrying", 0); return len(first) == 1 })
	var later []admin.Failure
	eventually(t, 20*time.Second, "it is tried for long, beyond its attempts", func() bool {
		later = failures("retried", "retrying", 0)
		return len(later) > 0 && later[0].At.Sub(first[0].At) > time.Second
	})
	if len(later) != 1 || !strings.Contains(later[0].Error, "cannot unmarshal") {
		t.Errorf("the failures are %v", later)
	}
}

// TestParking runs events that take long beside quick ones: nothing waits for them but what is behind them in their key.
func TestParking(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	release := make(chan struct{})
	l := newLedger()
	s := worker.Subscription{Name: "s", Topics: everything, ParkAfter: 50 * time.Millisecond, Timeout: worker.Unlimited}
	handler := func(ctx context.Context, e *worker.Event[payload]) error {
		if e.Payload.N < 0 {
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		l.add(e)
		return nil
	}
	start(t, db.Pool, worker.Config{}, s, handler)
	for _, key := range []string{"slow", ""} {
		publish(t, db.Pool, key, -1, 0) // takes until it is released
	}
	publish(t, db.Pool, "slow", 1, 4) // behind it
	publish(t, db.Pool, "quick", 1, 100)
	publish(t, db.Pool, "", 1, 100)
	l.waitFor(t, 2*99)
	eventually(t, 20*time.Second, "the slow ones have rows, and the log is settled", func() bool {
		status, err := admin.GetStatus(t.Context(), db.Pool)
		return err == nil && status.Subscriptions[0].Lag.Events == 0 &&
			status.Subscriptions[0].Deliveries["running"] == 2 && status.Subscriptions[0].Deliveries["blocked"] == 3
	})
	eventually(t, 20*time.Second, "no transaction is open while handlers take their time", func() (idle bool) {
		err := db.Pool.QueryRow(t.Context(), `
			select not exists (select from pg_stat_activity where datname = current_database() and application_name like 'signalbox worker%' and xact_start is not null)`).Scan(&idle)
		return err == nil && idle
	})
	publish(t, db.Pool, "slow", 4, 6) // more behind it
	close(release)
	events := l.waitFor(t, 2*99+2+5)
	var slow []int
	for _, e := range events {
		if e.Key == "slow" {
			slow = append(slow, e.Payload.N)
			if e.Attempt != 1 {
				t.Errorf("event %d of the slow key came with attempt %d", e.Payload.N, e.Attempt)
			}
		}
	}
	if want := []int{-1, 1, 2, 3, 4, 5}; !slices.Equal(slow, want) {
		t.Errorf("the slow key came as %v, want %v", slow, want)
	}
	eventually(t, 20*time.Second, "no row is left", func() bool { return len(rows(t, db)) == 0 })
}

// TestIgnoredTimeout has a handler go on after its time is over. That is reported; what it returns in the end counts.
func TestIgnoredTimeout(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var log syncBuffer
	w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	s := worker.Subscription{Name: "s", Topics: everything, Timeout: 20 * time.Millisecond, ParkAfter: 20 * time.Millisecond}
	err = worker.Handle(w, s, func(context.Context, *worker.Event[payload]) error { <-release; return nil })
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	publish(t, db.Pool, "", 7, 8)
	eventually(t, 20*time.Second, "it is reported", func() bool { return strings.Contains(log.String(), "ignores that its context has ended") })
	if list := rows(t, db); len(list) != 1 || list[0].State != "running" {
		t.Errorf("meanwhile its delivery is %+v", list)
	}
	close(release)
	eventually(t, 20*time.Second, "its row is gone", func() bool { return len(rows(t, db)) == 0 })
}

// TestParkedAtShutdown stops a worker while a parked handler runs. One that ends in time is recorded; one that does not is
// handed over, and its attempt does not count.
func TestParkedAtShutdown(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var started, cancelled atomic.Int64
	release := make(chan struct{})
	s := worker.Subscription{Name: "s", Topics: everything, ParkAfter: 20 * time.Millisecond}
	stop := start(t, db.Pool, worker.Config{ShutdownTimeout: 4 * time.Second}, s, func(ctx context.Context, e *worker.Event[payload]) error {
		started.Add(1)
		if e.Payload.N == 1 {
			<-release
			return nil
		}
		<-ctx.Done()
		cancelled.Add(1)
		return ctx.Err()
	})
	publish(t, db.Pool, "", 1, 3)
	eventually(t, 20*time.Second, "both are parked", func() bool {
		list := rows(t, db)
		return len(list) == 2 && list[0].State == "running" && list[1].State == "running"
	})
	done := make(chan struct{})
	go func() { defer close(done); stop() }()
	eventually(t, 20*time.Second, "the lanes are free", func() bool { lanes, _ := owners(t, db.Pool); return lanes[""] == engine.Lanes })
	close(release)
	<-done
	if cancelled.Load() != 1 {
		t.Error("the one that took too long was not cancelled")
	}
	list := rows(t, db)
	if len(list) != 1 || list[0].N != 2 || list[0].State != "retrying" || list[0].Attempt != 0 || len(list[0].Errors) != 0 {
		t.Errorf("left is %+v, want event 2 to be tried for the first time", list)
	}
	l := newLedger()
	start(t, db.Pool, worker.Config{}, s, record(l))
	if e := l.waitFor(t, 1)[0]; e.Payload.N != 2 || e.Attempt != 1 {
		t.Errorf("the next worker got event %d, attempt %d", e.Payload.N, e.Attempt)
	}
}

// TestKillerEvent has an event that kills its process, every time. It ends as a dead letter after its attempts, and all others
// are delivered.
func TestKillerEvent(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"exit", "memory"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			testKillerEvent(t, by)
		})
	}
}

// livesUntil starts a process, and another one whenever that dies, until all is over, and returns them. begin, if any, is called once the first one
// is started. No more than so many may die, each within a time.
func livesUntil(t *testing.T, db *pgtest.DB, cfg processConfig, most int, within time.Duration, begin func(), over func() bool) (processes []*process) {
	t.Helper()
	for n := 1; ; n++ {
		cfg.Name = fmt.Sprint("life-", n)
		p := spawn(t, cfg)
		processes = append(processes, p)
		if n == 1 && begin != nil {
			begin()
		}
		isOver := false
		eventually(t, within, "it dies, or all is over", func() bool {
			select {
			case <-p.Ended():
				return true
			default:
			}
			isOver = over()
			return isOver
		})
		if isOver {
			p.stop(t)
			return processes
		}
		if n > most {
			t.Fatalf("it has killed %d processes: %+v", n, rows(t, db))
		}
	}
}

func testKillerEvent(t *testing.T, by string) {
	db := pgtest.New(t)
	const events, killer, attempts = 60, 30, 3
	publish(t, db.Pool, "", 1, events)
	publish(t, db.Pool, "k", 1, killer)
	cfg := processConfig{URL: db.URL, Subscription: "s", Killer: killer, KillBy: by, Attempts: attempts}
	processes := livesUntil(t, db, cfg, attempts+3, 30*time.Second, nil, func() bool {
		list := rows(t, db)
		return len(list) == 1 && list[0].State == "dead" && settledAll(t, db.Pool)
	})
	list := rows(t, db)
	if list[0].N != killer || list[0].Attempt != attempts || len(list[0].Errors) != attempts || list[0].Errors[attempts-1].Attempt != attempts || list[0].Errors[attempts-1].Error != "its worker died or lost its connection" {
		t.Errorf("left is %+v", list)
	}
	seen := map[string]map[int]bool{"": {}, "k": {}}
	for _, p := range processes {
		for _, line := range p.handled() {
			seen[line.Key][line.N] = true
		}
	}
	if len(seen[""]) != events-2 || len(seen["k"]) != killer-1 {
		t.Errorf("%d and %d events were delivered, want %d and %d", len(seen[""]), len(seen["k"]), events-2, killer-1)
	}
	t.Logf("%d processes died", len(processes)-1)
}

// TestKillerInOutage has an event that kills its process come while all others fail and the breaker is open: it ends as a dead letter after its attempts,
// and no other does: of those, only attempts beside one that kills are counted.
func TestKillerInOutage(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const others, killer, attempts = 10, 10, 4
	publish(t, db.Pool, "", 0, others)
	cfg := processConfig{URL: db.URL, Subscription: "s", Killer: killer, KillBy: "exit", Attempts: attempts, Outage: true}
	begin := func() {
		eventually(t, 30*time.Second, "the breaker is open", func() bool {
			return number(t, db, `select count(*) from outbox.members m where m.breaker_opened_at is not null`) == 1
		})
		publish(t, db.Pool, "", killer, killer+1)
	}
	livesUntil(t, db, cfg, attempts+3, time.Minute, begin, func() bool {
		return slices.ContainsFunc(rows(t, db), func(r row) bool { return r.State == "dead" })
	})
	for _, r := range rows(t, db) {
		if r.N == killer && (r.State != "dead" || r.Attempt != attempts) || r.N != killer && r.State == "dead" {
			t.Errorf("left is %+v", r)
		}
	}
}
