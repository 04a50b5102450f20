package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	broker "github.com/signalbox-go/signalbox/brokers/kafka"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/kafka"
)

func TestMain(m *testing.M) { broker.Main(m) }

// patience is how long tests wait for what has to come.
const patience = 2 * time.Minute

func newSink(t *testing.T, c kafka.Config) *kafka.Sink {
	t.Helper()
	s, err := kafka.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newAdmin(t *testing.T, b *broker.Broker) *kadm.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return kadm.NewClient(c)
}

// newTopic creates a topic that is named after the test. Settings are "name=value".
func newTopic(t *testing.T, b *broker.Broker, partitions int32, settings ...string) string {
	t.Helper()
	name := strings.NewReplacer("/", ".", " ", "_").Replace(t.Name())
	configs := map[string]*string{}
	for _, setting := range settings {
		key, value, _ := strings.Cut(setting, "=")
		configs[key] = &value
	}
	admin := newAdmin(t, b)
	if _, err := admin.CreateTopic(t.Context(), partitions, 1, configs, name); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { // the broker learns of it from the controller
		details, err := admin.ListTopics(t.Context(), name)
		return err == nil && details.Has(name) && details[name].Partitions.NumReplicas() > 0
	})
	return name
}

func setTopic(t *testing.T, b *broker.Broker, topic, key, value string) {
	t.Helper()
	responses, err := newAdmin(t, b).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
	if err == nil {
		_, err = responses.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// send sends one message and returns its answer.
func send(ctx context.Context, s *kafka.Sink, m *relay.Message) error {
	answer := make(chan error, 1)
	s.Send(ctx, m, func(err error) { answer <- err })
	select {
	case err := <-answer:
		return err
	case <-time.After(patience):
		return errors.New("no answer")
	}
}

// sendUntilTaken sends a message until it is acknowledged: changes of a topic take time to be seen.
func sendUntilTaken(t *testing.T, s *kafka.Sink, m *relay.Message) error {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if err := send(t.Context(), s, m); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// read returns the records of a topic, up to its end as of now.
func read(t *testing.T, b *broker.Broker, topic string) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ends, err := newAdmin(t, b).ListEndOffsets(ctx, topic)
	if err != nil || ends.Error() != nil {
		t.Fatal(err, ends.Error())
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var records []*kgo.Record
	for int64(len(records)) < left {
		fetched := c.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatalf("read %d of %d records: %v", len(records), left, err)
		}
		records = append(records, fetched.Records()...)
	}
	return records
}

// A small relay: it sends the messages of each key in order, and after a failure waits for what is in flight, and goes on with the first
// that failed.
type small struct {
	sink    *kafka.Sink
	window  int           // messages of a key in flight
	timeout time.Duration // of an attempt
	pause   time.Duration // before what failed is tried again

	mu      sync.Mutex
	answers map[string]int // by text, of failed attempts
	dead    map[string]bool
	acked   int
}

func (r *small) run(ctx context.Context, lines map[string][]*relay.Message) error {
	r.answers, r.dead = map[string]int{}, map[string]bool{}
	var wg sync.WaitGroup
	for _, line := range lines {
		wg.Go(func() { r.line(ctx, line) })
	}
	wg.Wait()
	return ctx.Err()
}

func (r *small) line(ctx context.Context, todo []*relay.Message) {
	for len(todo) > 0 && ctx.Err() == nil {
		var mu sync.Mutex
		var flying sync.WaitGroup
		failed := false
		places := make(chan struct{}, r.window)
		settled := map[string]bool{}
		for _, m := range todo {
			places <- struct{}{}
			mu.Lock()
			stop := failed
			mu.Unlock()
			if stop {
				break
			}
			attempt, cancel := context.WithTimeout(ctx, r.timeout)
			flying.Add(1)
			r.sink.Send(attempt, m, func(err error) {
				defer flying.Done()
				defer cancel()
				mu.Lock()
				defer mu.Unlock()
				if r.settle(m, err) {
					settled[m.ID] = true
				} else {
					failed = true
				}
				<-places
			})
		}
		flying.Wait()
		var left []*relay.Message
		for _, m := range todo {
			if !settled[m.ID] {
				left = append(left, m)
			}
		}
		if todo = left; len(todo) > 0 {
			time.Sleep(r.pause)
		}
	}
}

// settle reports whether a message is done with.
func (r *small) settle(m *relay.Message, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.acked++
		return true
	}
	text := err.Error()
	r.answers[text[:min(len(text), 60)]]++
	if strings.HasPrefix(text, "dead letter: ") {
		r.dead[m.ID] = true
		return true
	}
	return false
}

// messages makes lines of keys, with ids that sort as they are sent. body makes the body of the nth message of a key.
func messages(topic string, keys, each int, body func(key, n int) []byte) map[string][]*relay.Message {
	lines := map[string][]*relay.Message{}
	for k := range keys {
		key := fmt.Sprintf("key-%d", k)
		for n := range each {
			id := fmt.Sprintf("%s/%06d", key, n)
			lines[key] = append(lines[key], &relay.Message{
				ID: id, Destination: topic, Key: key, Body: body(k, n), Headers: map[string]string{"ce_id": id}, Attempt: 1,
			})
		}
	}
	return lines
}

// ledger compares what was sent with what a topic has: all of it, first occurrences in order by key. It returns the number of duplicates.
func ledger(t *testing.T, lines map[string][]*relay.Message, dead map[string]bool, records []*kgo.Record) (duplicates int) {
	t.Helper()
	seen := map[string]bool{}
	last := map[string]string{}
	for _, r := range records {
		id := header(r, "ce_id")
		if seen[id] {
			duplicates++
			continue
		}
		seen[id] = true
		if key := string(r.Key); id < last[key] {
			t.Errorf("%s comes after %s", id, last[key])
		} else {
			last[key] = id
		}
	}
	for _, line := range lines {
		for _, m := range line {
			if seen[m.ID] == dead[m.ID] {
				t.Errorf("%s: in the topic: %v, a dead letter: %v", m.ID, seen[m.ID], dead[m.ID])
			}
		}
	}
	return duplicates
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
