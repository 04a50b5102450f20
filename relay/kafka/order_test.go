package kafka

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"github.com/signalbox-go/signalbox/relay"
)

// clientless returns a sink whose client is the test.
func clientless(t *testing.T) *Sink {
	t.Helper()
	s, err := New(Config{Brokers: []string{"a:1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// enters lets a message of the key k go to the client, up to the moment when it may take it.
func enters(t *testing.T, s *Sink, key, id string) (f *flight, answer chan error) {
	t.Helper()
	f = newFlight(s, &relay.Message{ID: id, Destination: "topic", Key: key})
	answer = make(chan error, 1)
	done := func(err error) { answer <- err }
	s.join(t.Context(), f, done)
	f.topic, f.share = &topic{name: "topic", flights: semaphore.NewWeighted(everything)}, 1
	_ = f.topic.flights.Acquire(t.Context(), 1)
	_ = s.records.Acquire(t.Context(), 1)
	if err := s.enter(t.Context(), f, done); err != nil {
		s.release(f)
		s.mu.Lock()
		s.leave(f, err)
		s.mu.Unlock()
		answer <- err
	}
	return f, answer
}

// taken is what the client calls when it has taken the record.
func taken(f *flight) { hooks{f.sink}.OnProduceRecordPartitioned(&f.record, 0) }

// barred asks as the client does before it sends a batch that begins with the flight.
func barred(f *flight) bool {
	select {
	case <-f.Done():
		return true
	default:
		return false
	}
}

var errFailed = errors.New("failed")

func TestWaitsForAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		key    string
		err    error
		barred bool
	}{
		"acknowledged":            {"k", nil, false},
		"failed":                  {"k", errFailed, true},
		"failed, and another key": {"other", errFailed, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := clientless(t)
			first, _ := enters(t, s, "k", "1")
			taken(first)
			second, _ := enters(t, s, test.key, "2") // between the failure and the answer
			taken(second)
			asked := make(chan bool)
			go func() { asked <- barred(second) }()
			select {
			case <-asked:
				t.Error("does not wait for the answer")
			case <-time.After(20 * time.Millisecond):
			}
			s.answered(first, test.err)
			if got := <-asked; got != test.barred {
				t.Errorf("barred: %v", got)
			}
		})
	}
}

// The answer comes when the message behind has passed the fence, and the client has not taken it yet: what could take it along is barred, too.
func TestFailsWhileAnotherEnters(t *testing.T) {
	t.Parallel()
	s := clientless(t)
	first, _ := enters(t, s, "k", "1")
	taken(first)
	second, _ := enters(t, s, "k", "2")
	s.answered(first, errFailed)
	other, _ := enters(t, s, "other", "3")
	taken(other)
	if !barred(other) {
		t.Error("the client may take the second one behind this one, and would not ask again")
	}
	s.answered(other, errBehind)
	taken(second)
	if !barred(second) {
		t.Error("the second one overtakes the first")
	}
	s.answered(second, errBehind)
	next, _ := enters(t, s, "other", "3")
	taken(next)
	if barred(next) {
		t.Error("the partition stays barred")
	}
}

func TestLineAfterFailure(t *testing.T) {
	t.Parallel()
	s := clientless(t)
	first, answer := enters(t, s, "k", "1")
	taken(first)
	s.answered(first, errFailed)
	if err := <-answer; err == nil {
		t.Error("the failure is not told")
	}
	if _, answer := enters(t, s, "k", "2"); !errors.Is(<-answer, errBehind) {
		t.Error("the relay cannot know of the failure, and sends the next one")
	}
	for _, id := range []string{"1", "2", "3"} {
		f, answer := enters(t, s, "k", id)
		if len(answer) > 0 {
			t.Fatalf("%s is refused: %v", id, <-answer)
		}
		taken(f)
		s.answered(f, nil)
		if err := <-answer; err != nil {
			t.Error(err)
		}
	}
	if len(s.lines) != 0 {
		t.Errorf("lines are left: %v", s.lines)
	}
}

// A dead letter holds up nothing.
func TestLineAfterDeadLetter(t *testing.T) {
	t.Parallel()
	s := clientless(t)
	first, answer := enters(t, s, "k", "1")
	first.alone = true
	taken(first)
	s.answered(first, kerr.InvalidRecord)
	if err := <-answer; err == nil {
		t.Error("the refusal is not told")
	}
	if _, answer := enters(t, s, "k", "2"); len(answer) > 0 {
		t.Errorf("the next one is refused: %v", <-answer)
	}
}

// A message that is tried again while the client has its record waits for that.
func TestJoinsItsRecord(t *testing.T) {
	t.Parallel()
	s := clientless(t)
	f := newFlight(s, &relay.Message{ID: "1", Destination: "topic", Key: "k"})
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	done := func(err error) { answer <- err }
	f.topic, f.share = &topic{name: "topic", flights: semaphore.NewWeighted(everything)}, 1
	_ = f.topic.flights.Acquire(ctx, 1)
	_ = s.records.Acquire(ctx, 1)
	s.join(ctx, f, done)
	if err := s.enter(ctx, f, done); err != nil {
		t.Fatal(err)
	}
	taken(f)
	cancel()
	if err := <-answer; err == nil {
		t.Error("acknowledged by nobody")
	}
	again := newFlight(s, &relay.Message{ID: "1", Destination: "topic", Key: "k"})
	if !s.join(t.Context(), again, done) {
		t.Fatal("it is sent once more")
	}
	s.answered(f, nil)
	if err := <-answer; err != nil {
		t.Error(err)
	}
	if len(s.detached)+len(s.flights)+len(s.lines) != 0 {
		t.Error("something is left")
	}
}

var (
	_ kgo.HookProduceRecordPartitioned = hooks{}
	_ kgo.HookBrokerConnect            = hooks{}
)
