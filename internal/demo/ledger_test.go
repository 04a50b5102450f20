package demo

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/producer"
)

// signal n differs from all others in its time.
func signal(n int) producer.Signal {
	return producer.Signal{Name: "temperature", Value: 21.5, Timestamp: time.UnixMicro(int64(n)).UTC()}
}

// eventOf is what the log has of a signal.
func eventOf(t *testing.T, id int64, s producer.Signal) outbox.Event {
	t.Helper()
	s.ID = id
	e, err := outbox.NewEvent(producer.TopicCreated, s.Name, s)
	if err != nil {
		t.Fatal(err)
	}
	e.ID = id
	return e
}

// counts is the report without what was measured.
func counts(r *Report) map[string][3]int {
	found := map[string][3]int{"": {r.Published, r.own, r.passed}}
	for label, t := range r.Subscriptions {
		found[label] = [3]int{t.Delivered, t.Duplicates, t.Missing}
	}
	return found
}

// A request sent, its event stored, answered, and handled by both: in whatever order these become known.
func TestLedgerTakesAnyOrder(t *testing.T) {
	t.Parallel()
	steps := map[byte]func(l *ledger, e outbox.Event) *passage{
		's': func(l *ledger, e outbox.Event) *passage { l.stored(e.ID); return nil },
		'a': func(l *ledger, _ outbox.Event) *passage { l.sent(signal(1), nil); return nil },
		'0': func(l *ledger, e outbox.Event) *passage { return l.handled(0, "log-1", e) },
		'1': func(l *ledger, e outbox.Event) *passage { return l.handled(1, "audit-1", e) },
	}
	for _, order := range []string{"sa01", "sa10", "s0a1", "0s1a", "01sa", "10sa", "s01a", "0sa1"} {
		l := newLedger(labels)
		l.sending(signal(1))
		passages := 0
		for i := range order {
			if p := steps[order[i]](l, eventOf(t, 7, signal(1))); p != nil {
				passages++
				if !p.own || p.signal.Name != "temperature" || p.arrivals[0].worker != "log-1" || p.arrivals[1].worker != "audit-1" {
					t.Errorf("%s: passage %+v", order, p)
				}
			}
			// An answer alone does not say which event it is; an arrival does, and proves it committed.
			known, missing := order[:i+1], 0
			if strings.ContainsAny(known, "s01") && (!strings.Contains(known, "0") || !strings.Contains(known, "1")) {
				missing = 1
			}
			if l.missing() != missing {
				t.Errorf("%s: %d missing after %s, want %d", order, l.missing(), known, missing)
			}
		}
		if passages != 1 || l.missing() != 0 || len(l.requests) != 0 {
			t.Errorf("%s: %d passages, %d missing, %d requests open", order, passages, l.missing(), len(l.requests))
		}
		r := l.report()
		want := map[string][3]int{"": {1, 1, 0}, "log": {1, 0, 0}, "audit": {1, 0, 0}}
		if diff := cmp.Diff(want, counts(r)); diff != "" {
			t.Errorf("%s: %s", order, diff)
		}
		if err := r.verdict(); err != nil {
			t.Errorf("%s: %v", order, err)
		}
	}
}

func TestLedgerMissesWhatDidNotArrive(t *testing.T) {
	t.Parallel()
	l := newLedger(labels)
	for n := range 10 {
		l.sending(signal(n))
		l.sent(signal(n), nil)
		l.stored(int64(n))
		l.handled(0, "log-1", eventOf(t, int64(n), signal(n)))
		if n >= 7 {
			l.handled(1, "audit-1", eventOf(t, int64(n), signal(n)))
		}
	}
	if l.missing() != 7 {
		t.Errorf("%d missing, want 7", l.missing())
	}
	r := l.report()
	want := map[string][3]int{"": {10, 10, 0}, "log": {10, 0, 0}, "audit": {3, 0, 7}}
	if diff := cmp.Diff(want, counts(r)); diff != "" {
		t.Error(diff)
	}
	err := r.verdict()
	if !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), "of 10 published events audit misses 7 (ids 0 1 2 3 4 …)") {
		t.Errorf("verdict: %v", err)
	}
}

func TestLedgerCountsDuplicatesApart(t *testing.T) {
	t.Parallel()
	l := newLedger(labels)
	l.sending(signal(1))
	for range 3 {
		l.handled(0, "log-1", eventOf(t, 1, signal(1)))
	}
	if p := l.handled(1, "audit-1", eventOf(t, 1, signal(1))); p == nil {
		t.Error("no passage")
	}
	if p := l.handled(1, "audit-1", eventOf(t, 1, signal(1))); p != nil {
		t.Error("a second passage")
	}
	l.sent(signal(1), nil)
	want := map[string][3]int{"": {1, 1, 0}, "log": {1, 2, 0}, "audit": {1, 1, 0}}
	r := l.report()
	if diff := cmp.Diff(want, counts(r)); diff != "" {
		t.Error(diff)
	}
	if err := r.verdict(); err != nil {
		t.Errorf("verdict: %v", err)
	}
}

// Requests that got no answer count if, and only if, their events are there.
func TestLedgerSettlesDoubts(t *testing.T) {
	t.Parallel()
	l := newLedger(labels)
	for n := 1; n <= 4; n++ {
		l.sending(signal(n))
		l.sent(signal(n), errors.New("EOF"))
	}
	l.handled(0, "log-1", eventOf(t, 1, signal(1))) // 1 arrives at one of them
	if unanswered := l.unanswered(); len(unanswered) != 3 {
		t.Fatalf("unanswered: %v", unanswered)
	}
	l.found(signal(2), 2) // 2 is in the log and arrives at both, 3 arrives nowhere, 4 was never stored
	l.found(signal(3), 3)
	l.found(signal(99), 99) // somebody else's
	l.handled(0, "log-1", eventOf(t, 2, signal(2)))
	l.handled(1, "audit-1", eventOf(t, 2, signal(2)))
	if unanswered := l.unanswered(); len(unanswered) != 1 || unanswered[0] != signal(4) {
		t.Errorf("unanswered: %v", unanswered)
	}
	r := l.report()
	want := map[string][3]int{"": {3, 3, 0}, "log": {2, 0, 1}, "audit": {1, 0, 2}}
	if diff := cmp.Diff(want, counts(r)); diff != "" {
		t.Error(diff)
	}
	if r.failed != 4 || r.rescued != 3 || l.missing() != 2 {
		t.Errorf("%d failed, %d of them stored, %d missing", r.failed, r.rescued, l.missing())
	}
}

// Other people's events count if they came through the producer. Their latency is not known.
func TestLedgerTakesOthersEvents(t *testing.T) {
	t.Parallel()
	l := newLedger(labels)
	l.stored(1, 2)
	foreign := outbox.Event{ID: 3, Topic: "signals.other", Payload: json.RawMessage(`[1]`)}
	for i := range labels {
		l.handled(i, "w", eventOf(t, 1, signal(1)))
		l.handled(i, "w", eventOf(t, 2, signal(2)))
		if p := l.handled(i, "w", foreign); i == 1 && (p == nil || p.own || p.signal != nil) {
			t.Errorf("passage of a foreign event: %+v", p)
		}
	}
	r := l.report()
	want := map[string][3]int{"": {2, 0, 1}, "log": {2, 0, 0}, "audit": {2, 0, 0}}
	if diff := cmp.Diff(want, counts(r)); diff != "" {
		t.Error(diff)
	}
	if (r.Latency != Quantiles{}) {
		t.Errorf("latency: %+v", r.Latency)
	}
}

func TestVerdictWhenNothingCouldBePublished(t *testing.T) {
	t.Parallel()
	l := newLedger(labels)
	if err := l.report().verdict(); err != nil {
		t.Errorf("nothing was tried: %v", err)
	}
	l.sending(signal(1))
	l.sent(signal(1), errors.New("503: the database cannot be reached"))
	if err := l.report().verdict(); !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("verdict: %v", err)
	}
}

func TestReportJSON(t *testing.T) {
	t.Parallel()
	r := &Report{
		Published:     3,
		Subscriptions: map[string]Tally{"log": {Delivered: 2, Duplicates: 1, Missing: 1, lost: []int64{5}}},
		Latency:       Quantiles{P50: 1.5, P99: 20},
		own:           2,
	}
	text, err := json.Marshal(r)
	want := `{"published":3,"subscriptions":{"log":{"delivered":2,"duplicates":1,"missing":1}},"latency_ms":{"p50":1.5,"p99":20}}`
	if err != nil || string(text) != want {
		t.Errorf("got %s %v\nwant %s", text, err, want)
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var latencies []time.Duration
	for n := 100; n >= 1; n-- {
		latencies = append(latencies, time.Duration(n)*time.Millisecond)
	}
	for _, test := range []struct {
		of   []time.Duration
		want Quantiles
	}{
		{nil, Quantiles{}},
		{[]time.Duration{1500 * time.Microsecond}, Quantiles{1.5, 1.5}},
		{[]time.Duration{2 * time.Millisecond, time.Millisecond}, Quantiles{1, 2}},
		{latencies, Quantiles{50, 99}},
	} {
		if got := quantiles(test.of); got != test.want {
			t.Errorf("%d latencies: got %v, want %v", len(test.of), got, test.want)
		}
	}
}
