package producer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/producer"
)

func TestStore(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool
	zone := time.FixedZone("", 2*60*60)
	want := []producer.Signal{
		{Name: "temperature", Value: -21.5, Timestamp: time.Date(2026, 11, 22, 12, 0, 0, 123_456_789, zone)},
		{Name: "Über \"näm\" \t", Value: math.MaxFloat64},
		{Name: "temperature", Value: math.SmallestNonzeroFloat64, Timestamp: time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC)},
	}
	before := time.Now().Truncate(time.Microsecond)
	stored, err := producer.Store(t.Context(), pool, want...)
	if err != nil {
		t.Fatal(err)
	}

	const both = `
		select s.id, s.name, s.value, s.timestamp, e.id, e.topic, e.key, e.payload
		from public.signals s join outbox.events e on (e.payload->>'id')::bigint = s.id order by s.id`
	rows, err := pool.Query(t.Context(), both)
	if err != nil {
		t.Fatal(err)
	}
	var i int
	var signal, carried producer.Signal
	var event outbox.Event
	_, err = pgx.ForEachRow(rows, []any{
		&signal.ID, &signal.Name, &signal.Value, &signal.Timestamp, &event.ID, &event.Topic, &event.Key, &event.Payload,
	}, func() error {
		if err := json.Unmarshal(event.Payload, &carried); err != nil {
			return err
		}
		signal.Timestamp = signal.Timestamp.UTC()
		// The same in the table, in the event and in what Store returned.
		if diff := cmp.Diff(signal, carried); diff != "" {
			t.Errorf("signal %d: its event differs (-table +event):\n%s", i, diff)
		}
		if diff := cmp.Diff(signal, stored[i].Signal); diff != "" {
			t.Errorf("signal %d: Store returned another (-table +returned):\n%s", i, diff)
		}
		if got := stored[i].Event; got.ID != event.ID || event.Topic != "signals.created" || event.Key != signal.Name {
			t.Errorf("signal %d has the event %+v, Store returned %+v", i, event, got)
		}
		if signal.Name != want[i].Name || signal.Value != want[i].Value {
			t.Errorf("signal %d: stored %+v, want %+v", i, signal, want[i])
		}
		if given := want[i].Timestamp; !given.IsZero() && !signal.Timestamp.Equal(given.Truncate(time.Microsecond)) {
			t.Errorf("signal %d: stored at %s, want %s", i, signal.Timestamp, given)
		} else if given.IsZero() && (signal.Timestamp.Before(before) || signal.Timestamp.After(time.Now())) {
			t.Errorf("signal %d: stored at %s, want now", i, signal.Timestamp)
		}
		i++
		return nil
	})
	if err != nil || i != len(want) {
		t.Fatalf("read %d signals: %v", i, err)
	}
}

func TestStoreRefuses(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool
	good := producer.Signal{Name: "good", Value: 1}
	for _, bad := range []struct {
		field  string
		signal producer.Signal
	}{
		{"name", producer.Signal{}},
		{"name", producer.Signal{Name: " \t"}},
		{"name", producer.Signal{Name: strings.Repeat("n", outbox.MaxKeyBytes+1)}},
		{"name", producer.Signal{Name: "a\x00b"}},
		{"name", producer.Signal{Name: "a\xffb"}},
		{"value", producer.Signal{Name: "n", Value: math.NaN()}},
		{"value", producer.Signal{Name: "n", Value: math.Inf(-1)}},
		{"timestamp", producer.Signal{Name: "n", Timestamp: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{"timestamp", producer.Signal{Name: "n", Timestamp: time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)}},
	} {
		_, err := producer.Store(t.Context(), pool, good, bad.signal)
		var refused *producer.SignalError
		if !errors.As(err, &refused) || !errors.Is(err, producer.ErrInvalidSignal) {
			t.Errorf("%+v: got %v, want a SignalError", bad.signal, err)
		} else if refused.Index != 1 || refused.Field != bad.field {
			t.Errorf("%+v: got %v, want one about the %s of signal 1", bad.signal, err, bad.field)
		}
	}
	checkCounts(t, pool, 0, 0)
}

func TestStoreNothing(t *testing.T) {
	t.Parallel()
	if stored, err := producer.Store(t.Context(), nil); err != nil || stored != nil {
		t.Errorf("got %v, %v", stored, err)
	}
}

// A transaction of the caller's decides what becomes of the signals.
func TestStoreInTransaction(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool
	undone := errors.New("undone")
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := producer.Store(t.Context(), tx, producer.Signal{Name: "n"}); err != nil {
			return err
		}
		return undone
	})
	if !errors.Is(err, undone) {
		t.Fatal(err)
	}
	checkCounts(t, pool, 0, 0)
}

// A batch keeps its order, and each signal its own event.
func TestStoreMany(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool
	signals := make([]producer.Signal, producer.MaxBatch)
	for i := range signals {
		signals[i] = producer.Signal{Name: fmt.Sprint("n", i%7), Value: float64(i)}
	}
	stored, err := producer.Store(t.Context(), pool, signals...)
	if err != nil {
		t.Fatal(err)
	}
	checkCounts(t, pool, len(signals), len(signals))
	var mixed int
	const check = `
		select count(*) from unnest($1::bigint[], $2::bigint[], $3::float8[]) as r (signal_id, event_id, value)
		left join public.signals s on s.id = r.signal_id and s.value = r.value
		left join outbox.events e on e.id = r.event_id and (e.payload->>'id')::bigint = s.id and e.key = s.name
		where e.id is null`
	var signalIDs, eventIDs []int64
	var values []float64
	for i, s := range stored {
		signalIDs, eventIDs, values = append(signalIDs, s.Signal.ID), append(eventIDs, s.Event.ID), append(values, float64(i))
		if i > 0 && eventIDs[i] <= eventIDs[i-1] {
			t.Fatalf("event ids fall at %d: %d after %d", i, eventIDs[i], eventIDs[i-1])
		}
	}
	if err := pool.QueryRow(t.Context(), check, signalIDs, eventIDs, values).Scan(&mixed); err != nil || mixed != 0 {
		t.Errorf("%d of %d signals are mixed up (%v)", mixed, len(stored), err)
	}
}

func TestStoreOutcome(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, atCommit string
		unknown        bool
	}{
		{"commit refused", "raise exception 'no'", false},
		{"session terminated at commit", "perform pg_terminate_backend(pg_backend_pid())", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t).Pool
			atCommit(t, pool, test.atCommit)
			_, err := producer.Store(t.Context(), pool, producer.Signal{Name: "n"})
			if err == nil || errors.Is(err, producer.ErrOutcomeUnknown) != test.unknown {
				t.Errorf("got %v; is its outcome unknown? want %t", err, test.unknown)
			}
			checkCounts(t, pool, 0, 0)
		})
	}
}

// The connection is lost when the server has committed and before its answer arrives: the signal is stored, and Store must not
// claim that it is not.
func TestStoreAnswerLost(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	config, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &lossy{Conn: conn}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := producer.Store(t.Context(), pool, producer.Signal{Name: "n"}); !errors.Is(err, producer.ErrOutcomeUnknown) {
		t.Errorf("got %v, want %v", err, producer.ErrOutcomeUnknown)
	}
	checkCounts(t, db.Pool, 1, 1)
}

// A lossy connection ends when the answer to a commit arrives.
type lossy struct {
	net.Conn
	committing bool
}

func (c *lossy) Write(b []byte) (int, error) {
	c.committing = c.committing || bytes.Contains(b, []byte("commit\x00"))
	return c.Conn.Write(b)
}

func (c *lossy) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.committing && err == nil {
		return 0, io.EOF
	}
	return n, err
}
