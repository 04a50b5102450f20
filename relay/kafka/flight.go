package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/signalbox-go/signalbox/relay"
)

// A flight is a message on its way: from Send until the client says what became of its record. It is also the context of the record.
type flight struct {
	sink   *Sink
	id     flightID
	line   *line // nil without key
	record kgo.Record
	size   int

	// What it took, see admit.
	topic  *topic
	share  int64
	weight int64
	alone  bool // nothing else of its topic is in flight, so that a failure is its own

	// Behind Sink.mu.
	done      func(error) // nil when the message has its answer already
	stop      func() bool
	since     time.Time
	partition *partition // once the client has put the record into one
	number    uint64     // its place in the partition
	doom      *partition // of what failed before it in its line, while it entered the client
}

type flightID struct{ topic, message string }

// overhead is what a batch of one record has beside key, value and headers: more than Kafka counts, less than could matter.
const overhead = 100

func newFlight(s *Sink, m *relay.Message) *flight {
	f := &flight{sink: s, id: flightID{m.Destination, m.ID}, since: time.Now()}
	f.record = kgo.Record{Topic: m.Destination, Value: m.Body, Context: f, Headers: make([]kgo.RecordHeader, 0, len(m.Headers))}
	if m.Key != "" {
		f.record.Key = []byte(m.Key)
	}
	f.size = overhead + len(m.Key) + len(m.Body)
	for name, value := range m.Headers {
		f.record.Headers = append(f.record.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		f.size += len(name) + len(value) + 4
	}
	return f
}

// wait answers the message when ctx ends, if nothing else does before.
func (f *flight) wait(ctx context.Context) {
	f.stop = context.AfterFunc(ctx, func() {
		f.sink.mu.Lock()
		defer f.sink.mu.Unlock()
		f.sink.detach(f, f.sink.late(f, context.Cause(ctx)))
	})
}

// Done is called by the client before it first sends a batch that begins with the record, if nothing of the partition is in flight then: what was
// before has been answered or has failed. It holds the lock of the partition. If the batch or what is behind it may have a message whose line failed,
// nothing of it must be sent: the channel is closed then, as that of a context that ended, and the client fails all of it.
//
// The client's answers may still be on their way, by a goroutine that never waits for a partition's lock. Done waits for them.
func (f *flight) Done() <-chan struct{} {
	s := f.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	p := f.partition
	if p == nil { // it waits for the topic's partitions
		return nil
	}
	for p.answered < f.number-1 {
		s.moved.Wait()
	}
	if f.number <= p.barred || p.doomed > 0 {
		return closed
	}
	return nil
}

// Err is what the client fails the batch with.
func (f *flight) Err() error { return errBehind }

// Deadline and Value complete the context.
func (f *flight) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// Value has none.
func (f *flight) Value(any) any { return nil }

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

type partitionID struct {
	topic  string
	number int32
}

// A partition counts the records that the client has taken for a partition, in the order in which it sends them.
type partition struct {
	taken    uint64
	answered uint64 // the last one that was
	barred   uint64 // up to here, there are records whose line failed before they were sent
	doomed   int    // flights whose line failed while they entered the client
}

// OnProduceRecordPartitioned is called by the client, with the lock of the record's partition held, when it has taken a record.
func (h hooks) OnProduceRecordPartitioned(r *kgo.Record, _ int32) {
	f := r.Context.(*flight) // Send is all that produces
	h.mu.Lock()
	defer h.mu.Unlock()
	id := partitionID{r.Topic, r.Partition}
	p := h.partitions[id]
	if p == nil {
		p = &partition{}
		h.partitions[id] = p
	}
	p.taken++
	f.partition, f.number = p, p.taken
	if f.line == nil {
		return
	}
	f.line.last = f.number
	f.entered()
	if len(f.line.failed) > 0 {
		p.barred = f.number
	}
}

// entered ends the time in which the client may take the record at any moment. The caller holds Sink.mu.
func (f *flight) entered() {
	if f.line.entering == f {
		f.line.entering = nil
	}
	if f.doom != nil {
		f.doom.doomed--
		f.doom = nil
	}
}

// passed notes that a record was answered. The caller holds Sink.mu.
func (s *Sink) passed(f *flight, err error) {
	if f.line != nil {
		f.entered()
	}
	p := f.partition
	if p == nil {
		return
	}
	p.answered = max(p.answered, f.number)
	s.moved.Broadcast()
	if err == nil || f.line == nil {
		return
	}
	p.barred = max(p.barred, f.line.last)
	if entering := f.line.entering; entering != nil && entering.doom == nil {
		entering.doom = p
		p.doomed++
	}
}
