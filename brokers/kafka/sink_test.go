package kafka_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	broker "github.com/signalbox-go/signalbox/brokers/kafka"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/kafka"
)

// window is how many messages of a key are in flight.
const window = 100

func TestRecord(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	topic := newTopic(t, b, 1)
	s := newSink(t, kafka.Config{Brokers: []string{b.Addr}, Compression: "zstd"})
	if err := s.Check(t.Context(), []string{topic}); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*relay.Message{
		{ID: "1", Key: "k", Body: []byte(`{"a":1}`), Headers: map[string]string{"ce_id": "1", "ce_type": "orders.placed"}},
		{ID: "2", Key: "k", Body: nil, Headers: map[string]string{"ce_id": "2"}},
		{ID: "3", Body: []byte{}},
	} {
		m.Destination = topic
		if err := send(t.Context(), s, m); err != nil {
			t.Fatal(err)
		}
	}
	records := read(t, b, topic)
	if len(records) != 3 {
		t.Fatalf("%d records", len(records))
	}
	first, tombstone, empty := records[0], records[1], records[2]
	if string(first.Key) != "k" || string(first.Value) != `{"a":1}` || header(first, "ce_id") != "1" || header(first, "ce_type") != "orders.placed" {
		t.Errorf("the first is %+v", first)
	}
	if tombstone.Value != nil || string(tombstone.Key) != "k" {
		t.Errorf("the tombstone is %+v", tombstone)
	}
	if empty.Key != nil || empty.Value == nil {
		t.Errorf("the one without key is %+v", empty)
	}
}

// The hashes are those of Kafka's own tests of its partitioner (UtilsTest.testMurmur2).
func TestPartitions(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	const partitions = 12
	topic := newTopic(t, b, partitions)
	s := newSink(t, kafka.Config{Brokers: []string{b.Addr}})
	want := map[string]int32{}
	for key, hash := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		want[key] = hash & 0x7fffffff % partitions
		if err := send(t.Context(), s, &relay.Message{ID: key, Destination: topic, Key: key, Body: []byte("1")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range read(t, b, topic) {
		if r.Partition != want[string(r.Key)] {
			t.Errorf("key %s is in partition %d, Java puts it into %d", r.Key, r.Partition, want[string(r.Key)])
		}
	}
}

func TestKilledBroker(t *testing.T) {
	t.Parallel()
	b := broker.New(t)
	topic := newTopic(t, b, 3)
	r := &small{window: window, sink: newSink(t, kafka.Config{Brokers: []string{b.Addr}}), timeout: 5 * time.Second, pause: 200 * time.Millisecond}
	const keys, each = 20, 3000
	lines := messages(topic, keys, each, func(_, _ int) []byte { return []byte(`{"some":"payload"}`) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	ran := make(chan error)
	go func() { ran <- r.run(ctx, lines) }()
	for i := range 2 {
		r.awaitAcked(t, (i+1)*keys*each/4)
		b.Kill()
		r.awaitFailed(t)
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	duplicates := ledger(t, lines, r.dead, read(t, b, topic))
	t.Logf("%d duplicates of %d; failed attempts: %v", duplicates, keys*each, r.answers)
	if most := 2 * keys * window; duplicates > most || len(r.dead) > 0 {
		t.Errorf("%d duplicates, at most %d were in flight when the broker was killed; dead letters: %v", duplicates, most, r.dead)
	}
	for text := range r.answers {
		if !strings.HasPrefix(text, "outage: ") {
			t.Errorf("an attempt was used up: %s", text)
		}
	}
}

func TestFrozenBroker(t *testing.T) {
	t.Parallel()
	b := broker.New(t)
	topic := newTopic(t, b, 1)
	s := newSink(t, kafka.Config{Brokers: []string{b.Addr}})
	message := &relay.Message{ID: "1", Destination: topic, Key: "k", Body: []byte("1")}
	if err := send(t.Context(), s, &relay.Message{ID: "0", Destination: topic, Key: "k", Body: []byte("0")}); err != nil {
		t.Fatal(err)
	}
	b.Freeze()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		err := send(ctx, s, message)
		cancel()
		if err == nil || !strings.HasPrefix(err.Error(), "outage: ") {
			t.Errorf("a frozen broker's answer is %v", err)
		}
	}
	b.Thaw()
	if err := send(t.Context(), s, message); err != nil {
		t.Fatal(err)
	}
	if records := read(t, b, topic); len(records) > 3 { // once for the tries, and once more if the last one came after the first was acknowledged
		t.Errorf("%d records: the tries were sent one by one", len(records))
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	topic := newTopic(t, b, 1, "max.message.bytes=10000")
	r := &small{window: window, sink: newSink(t, kafka.Config{Brokers: []string{b.Addr}}), timeout: patience}
	lines := messages(topic, 5, 200, func(key, n int) []byte {
		if key == 0 && n%50 == 10 {
			return bytes.Repeat([]byte{byte(n)}, 20_000)
		}
		return []byte("small")
	})
	if err := r.run(t.Context(), lines); err != nil {
		t.Fatal(err)
	}
	if duplicates := ledger(t, lines, r.dead, read(t, b, topic)); duplicates != 0 || len(r.dead) != 4 || r.acked != 996 || len(r.answers) != 1 {
		t.Errorf("%d duplicates, dead letters: %v, failures: %v", duplicates, r.dead, r.answers)
	}

	// After the limit was raised, it goes.
	large := lines["key-0"][10]
	if err := send(t.Context(), r.sink, large); err == nil || !strings.Contains(err.Error(), "raise max.message.bytes") {
		t.Errorf("the answer is %v", err)
	}
	setTopic(t, b, topic, "max.message.bytes", "30000")
	if err := sendUntilTaken(t, r.sink, large); err != nil {
		t.Fatal(err)
	}
}

// Kafka itself refuses messages in the middle of a stream at full speed, since its limit is lower now than what the sink knows.
func TestRefusedByKafka(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	topic := newTopic(t, b, 1)
	r := &small{window: 10_000, sink: newSink(t, kafka.Config{Brokers: []string{b.Addr}, Compression: "none"}), timeout: patience, pause: 10 * time.Millisecond}
	if err := send(t.Context(), r.sink, &relay.Message{ID: "0", Destination: topic, Body: []byte("0"), Headers: map[string]string{"ce_id": "0"}}); err != nil {
		t.Fatal(err)
	}
	setTopic(t, b, topic, "max.message.bytes", "3000")
	large := map[string]bool{}
	lines := messages(topic, 4, 10_000, func(key, n int) []byte {
		if n%1000 == 100+key {
			return bytes.Repeat([]byte("x"), 2_950)
		}
		return []byte("small")
	})
	for _, line := range lines {
		for _, m := range line {
			if len(m.Body) > 1000 {
				large[m.ID] = true
			}
		}
	}
	if err := r.run(t.Context(), lines); err != nil {
		t.Fatal(err)
	}
	duplicates := ledger(t, lines, r.dead, read(t, b, topic)[1:])
	t.Logf("failed attempts: %v", r.answers)
	if duplicates != 0 || len(r.dead) != len(large) {
		t.Errorf("%d duplicates, %d dead letters, not the %d large ones: %v", duplicates, len(r.dead), len(large), r.dead)
	}
}

// What is sent after a change of the limit has the sequence numbers of what was sent before: it must not be taken for a repetition.
func TestChangedLimit(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	topic := newTopic(t, b, 1, "max.message.bytes=2000")
	s := newSink(t, kafka.Config{Brokers: []string{b.Addr}})
	if err := send(t.Context(), s, &relay.Message{ID: "1", Destination: topic, Key: "k", Body: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	setTopic(t, b, topic, "max.message.bytes", "8000")
	if err := sendUntilTaken(t, s, &relay.Message{ID: "2", Destination: topic, Key: "k", Body: bytes.Repeat([]byte("2"), 4000)}); err != nil {
		t.Fatal(err)
	}
	if records := read(t, b, topic); len(records) != 2 {
		t.Errorf("%d records of 2 that were acknowledged", len(records))
	}
}

func TestUnknownTopic(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	m := &relay.Message{ID: "1", Destination: "no-such-topic", Body: []byte("1")}
	s := newSink(t, kafka.Config{Brokers: []string{b.Addr}})
	const want = "the topic no-such-topic does not exist: create it"
	if err := send(t.Context(), s, m); err == nil || !strings.HasPrefix(err.Error(), "outage: "+want) {
		t.Errorf("the answer is %v", err)
	}
	if err := s.Check(t.Context(), []string{m.Destination}); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("the check says %v", err)
	}
	m.Destination = "no topic"
	if err := send(t.Context(), s, m); err == nil || !strings.HasPrefix(err.Error(), `dead letter: "no topic" is no name of a topic`) {
		t.Errorf("the answer is %v", err)
	}

	m.Destination = "created-topic"
	s = newSink(t, kafka.Config{Brokers: []string{b.Addr}, AutoTopicCreation: 3})
	if err := send(t.Context(), s, m); err != nil {
		t.Fatal(err)
	}
	if details, err := newAdmin(t, b).ListTopics(t.Context(), m.Destination); err != nil || len(details[m.Destination].Partitions) != 3 {
		t.Errorf("created as %v, %v", details, err)
	}
}

// A topic that goes away is an outage, and its return ends that.
func TestTopicReturns(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	topic := newTopic(t, b, 1)
	s := newSink(t, kafka.Config{Brokers: []string{b.Addr}})
	m := &relay.Message{ID: "1", Destination: topic, Key: "k", Body: []byte("1"), Headers: map[string]string{"ce_id": "1"}}
	if err := send(t.Context(), s, m); err != nil {
		t.Fatal(err)
	}
	if _, err := newAdmin(t, b).DeleteTopics(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := send(ctx, s, m)
	for err == nil { // the broker goes on with a topic that was deleted, for a moment
		err = send(ctx, s, m)
	}
	if !strings.HasPrefix(err.Error(), "outage: ") {
		t.Errorf("the answer is %v", err)
	}
	newTopic(t, b, 1)
	if err := sendUntilTaken(t, s, m); err != nil {
		t.Fatal(err)
	}
	if records := read(t, b, topic); len(records) != 1 {
		t.Errorf("%d records", len(records))
	}
}

func TestCompactedWithoutKey(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	topic := newTopic(t, b, 1, "cleanup.policy=compact")
	s := newSink(t, kafka.Config{Brokers: []string{b.Addr}})
	if err := send(t.Context(), s, &relay.Message{ID: "1", Destination: topic, Body: []byte("1")}); err == nil ||
		!strings.HasPrefix(err.Error(), "dead letter: the event has no key") {
		t.Errorf("the answer is %v", err)
	}
	if err := send(t.Context(), s, &relay.Message{ID: "2", Destination: topic, Key: "k"}); err != nil {
		t.Error(err)
	}
}

func (r *small) awaitAcked(t *testing.T, n int) {
	t.Helper()
	await(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.acked >= n })
}

// awaitFailed waits until an attempt fails.
func (r *small) awaitFailed(t *testing.T) {
	t.Helper()
	failures := func() (n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, count := range r.answers {
			n += count
		}
		return n
	}
	before := failures()
	await(t, func() bool { return failures() > before })
}

func await(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited too long")
		}
	}
}
