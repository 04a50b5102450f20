package rabbitmq_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/signalbox-go/signalbox/brokers/certs"
	"github.com/signalbox-go/signalbox/brokers/drive"
	broker "github.com/signalbox-go/signalbox/brokers/rabbitmq"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/rabbitmq"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newSink(t *testing.T, c sinks.Config) *sinks.Sink {
	t.Helper()
	sink, err := sinks.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	})
	return sink
}

// open returns a channel for the test itself.
func open(t *testing.T, s *broker.Server) *amqp.Channel {
	t.Helper()
	conn, err := amqp.DialConfig("amqp://guest:guest@"+s.Address+"/", amqp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(time.Second)) })
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return channel
}

// declare makes an exchange, and a durable queue of the same name that takes every key that begins with "k.".
func declare(t *testing.T, channel *amqp.Channel, name string, arguments amqp.Table) {
	t.Helper()
	if err := channel.ExchangeDeclare(name, "topic", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := channel.QueueDeclare(name, true, false, false, false, arguments); err != nil {
		t.Fatal(err)
	}
	if err := channel.QueueBind(name, "k.#", name, false, nil); err != nil {
		t.Fatal(err)
	}
}

// take takes all messages out of a queue.
func take(t *testing.T, channel *amqp.Channel, queue string) []amqp.Delivery {
	t.Helper()
	var taken []amqp.Delivery
	for {
		d, ok, err := channel.Get(queue, true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return taken
		}
		taken = append(taken, d)
	}
}

func ids(taken []amqp.Delivery) []string {
	ids := make([]string, len(taken))
	for i, d := range taken {
		ids[i] = d.MessageId
	}
	return ids
}

const maxMessageSize = 50_000

func TestSink(t *testing.T) {
	t.Parallel()
	dir := broker.Dir(t)
	files := certs.New(t, dir)
	server := broker.Start(t, broker.Config{
		Dir: dir, TLS: true, Text: fmt.Sprintf("max_message_size = %d", maxMessageSize),
		Users: []broker.User{{Name: "writer", Write: "^allowed$"}},
	})
	for name, test := range map[string]func(*testing.T, *broker.Server){
		"stores": stores, "destinations": destinations, "unroutable": unroutable, "unknown exchange": unknownExchange,
		"too large": tooLarge, "not allowed": notAllowed, "rejected": rejected, "check": check, "closed": closed, "many": many,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, server)
		})
	}
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		others := certs.New(t, t.TempDir())
		channel := open(t, server)
		declare(t, channel, "tls", nil)
		url := "amqps://" + server.TLSAddress
		sink := newSink(t, sinks.Config{URL: url, CAFile: files.CA, CertFile: files.Cert, KeyFile: files.Key})
		drive.Want(t, sink.Check(t.Context(), []string{"tls/k.1"}), drive.Stored, "")
		drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "1", Destination: "tls/k.1"}), drive.Stored, "")
		wrong := newSink(t, sinks.Config{URL: url, CAFile: others.CA})
		drive.Want(t, wrong.Check(t.Context(), nil), drive.Again, "set the CA file")
		drive.Want(t, drive.Send(t, wrong, &relay.Message{ID: "1", Destination: "tls/k.1"}), drive.Outage, "set the CA file")
		plain := newSink(t, sinks.Config{URL: "amqps://" + server.Address, CAFile: files.CA})
		drive.Want(t, plain.Check(t.Context(), nil), drive.Again, "not connected to amqps://")
	})
}

func stores(t *testing.T, server *broker.Server) {
	channel := open(t, server)
	declare(t, channel, "stores", nil)
	sink := newSink(t, sinks.Config{URL: server.URL(), Exchange: "stores"})
	drive.Want(t, sink.Check(t.Context(), []string{"k.placed"}), drive.Stored, "")
	at := time.Unix(1_700_000_000, 0)
	drive.Want(t, drive.Send(t, sink, &relay.Message{
		ID: "id-1", Destination: "k.placed/with a slash", ContentType: "application/json", Body: []byte(`{"total":3}`),
		Headers: map[string]string{"cloudEvents:id": "id-1", "traceparent": "00-1", "CC": "elsewhere"},
		Event:   &outbox.Event{Topic: "orders.placed", PublishedAt: at},
	}), drive.Stored, "")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "id-2", Destination: "k.gone"}), drive.Stored, "")
	got := take(t, channel, "stores")
	if len(got) != 2 {
		t.Fatalf("stored %d", len(got))
	}
	d := got[0]
	first := fmt.Sprintf("%s %s %s %s %s %d %v %v", d.RoutingKey, d.MessageId, d.ContentType, d.Type, d.Body, d.DeliveryMode, d.Timestamp.Equal(at), d.Headers)
	if first != `k.placed/with a slash id-1 application/json orders.placed {"total":3} 2 true map[cloudEvents:id:id-1 traceparent:00-1]` {
		t.Errorf("stored %s", first)
	}
	if len(got[1].Body) != 0 {
		t.Errorf("a message without a body has %q", got[1].Body)
	}
}

func destinations(t *testing.T, server *broker.Server) {
	channel := open(t, server)
	declare(t, channel, "destinations", nil)
	sink := newSink(t, sinks.Config{URL: server.URL()})
	drive.Want(t, sink.Check(t.Context(), []string{"destinations/k.1", "destinations"}), drive.Stored, "")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "1", Destination: "destinations/k.1/2"}), drive.Stored, "")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "2", Destination: "destinations"}), drive.Stored, "")
	got := take(t, channel, "destinations")
	if len(got) != 2 || got[0].RoutingKey != "k.1/2" || got[1].Exchange != "" {
		t.Errorf("stored %v", got)
	}
}

// What no queue takes comes back before it is confirmed: also among many that are taken.
func unroutable(t *testing.T, server *broker.Server) {
	channel := open(t, server)
	declare(t, channel, "unroutable", nil)
	sink := newSink(t, sinks.Config{URL: server.URL(), Exchange: "unroutable"})
	var senders sync.WaitGroup
	for n := range 500 {
		senders.Go(func() {
			if n%2 == 0 {
				drive.Want(t, drive.Send(t, sink, &relay.Message{ID: fmt.Sprint(n), Destination: "k.1"}), drive.Stored, "")
			} else {
				drive.Want(t, drive.Send(t, sink, &relay.Message{ID: fmt.Sprint(n), Destination: "nowhere"}), drive.Dead,
					`312 NO_ROUTE: bind a queue to exchange "unroutable" for routing key "nowhere"`)
			}
		})
	}
	senders.Wait()
	if got := len(take(t, channel, "unroutable")); got != 250 {
		t.Errorf("stored %d", got)
	}
}

func unknownExchange(t *testing.T, server *broker.Server) {
	channel := open(t, server)
	declare(t, channel, "known", nil)
	sink := newSink(t, sinks.Config{URL: server.URL()})
	drive.Want(t, sink.Check(t.Context(), []string{"known/k.1", "unknown/k.1"}), drive.Again, `there is no exchange "unknown": declare it`)
	drive.Want(t, sink.Check(t.Context(), []string{"no-queue"}), drive.Again, `there is no queue "no-queue": declare it`)
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "1", Destination: "unknown/k.1"}), drive.Outage, `there is no exchange "unknown": declare it`)
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "2", Destination: "known/k.1"}), drive.Stored, "")
}

func tooLarge(t *testing.T, server *broker.Server) {
	channel := open(t, server)
	declare(t, channel, "large", nil)
	sink := newSink(t, sinks.Config{URL: server.URL(), Exchange: "large"})
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "1", Destination: "k.1", Body: make([]byte, maxMessageSize)}), drive.Stored, "")
	run := drive.Load{Keys: 10, PerKey: 20, Destination: "k.1"}.Start(t, sink)
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "2", Destination: "k.1", Body: make([]byte, maxMessageSize+1)}), drive.Dead,
		fmt.Sprintf("message of %d bytes is larger than max_message_size of the server, %d", maxMessageSize+1, maxMessageSize))
	run.Wait(t)
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "3", Destination: strings.Repeat("k", 256)}), drive.Dead, "has 256 bytes, AMQP allows 255")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "4", Destination: "k.1", Headers: map[string]string{strings.Repeat("k", 256): ""}}), drive.Dead, "has 256 bytes, AMQP allows 255")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "5", Destination: "k.1", Headers: map[string]string{"h": strings.Repeat("x", 140_000)}}), drive.Dead, "do not fit into a frame")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "6", Destination: "k.1", Headers: map[string]string{"h": strings.Repeat("x", 130_000)}}), drive.Stored, "")
}

func notAllowed(t *testing.T, server *broker.Server) {
	channel := open(t, server)
	declare(t, channel, "allowed", nil)
	declare(t, channel, "secrets", nil)
	sink := newSink(t, sinks.Config{URL: server.URL(), User: "writer", Password: "secret"})
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "1", Destination: "secrets/k.1"}), drive.Outage, `give the user write permission for exchange "secrets"`)
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "2", Destination: "allowed/k.1"}), drive.Stored, "")
}

// A queue that is full and rejects has RabbitMQ say so for each message.
func rejected(t *testing.T, server *broker.Server) {
	channel := open(t, server)
	declare(t, channel, "rejected", amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
	sink := newSink(t, sinks.Config{URL: server.URL(), Exchange: "rejected"})
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "1", Destination: "k.1"}), drive.Stored, "")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "2", Destination: "k.1"}), drive.Again, "basic.nack")
	take(t, channel, "rejected")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "2", Destination: "k.1"}), drive.Stored, "")
}

func check(t *testing.T, server *broker.Server) {
	wrong := newSink(t, sinks.Config{URL: server.URL(), User: "guest", Password: "wrong-secret"})
	err := wrong.Check(t.Context(), nil)
	drive.Want(t, err, drive.Again, `correct the user "guest" or its password`)
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v tells the password", err)
	}
	drive.Want(t, drive.Send(t, wrong, &relay.Message{ID: "1", Destination: "q"}), drive.Outage, `correct the user "guest" or its password`)
	vhost := newSink(t, sinks.Config{URL: server.URL() + "shop"})
	drive.Want(t, vhost.Check(t.Context(), nil), drive.Again, `create the virtual host "shop"`)
	away := newSink(t, sinks.Config{URL: "amqp://127.0.0.1:1/"})
	drive.Want(t, away.Check(t.Context(), nil), drive.Again, "start the server, or correct the address")
	drive.Want(t, drive.Send(t, away, &relay.Message{ID: "1", Destination: "q"}), drive.Outage, "not connected to amqp://127.0.0.1:1")
}

// What is in flight when the sink is closed is answered, and what comes later, too.
func closed(t *testing.T, server *broker.Server) {
	channel := open(t, server)
	declare(t, channel, "closed", nil)
	sink := newSink(t, sinks.Config{URL: server.URL(), Exchange: "closed"})
	answers := make(chan error, 200)
	for n := range 100 {
		sink.Send(t.Context(), &relay.Message{ID: fmt.Sprint(n), Destination: "k.1"}, func(err error) { answers <- err })
	}
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
	stored := 0
	for range 100 {
		if err := <-answers; err == nil {
			stored++
		} else {
			drive.Want(t, err, drive.Again, "the sink is closed")
		}
	}
	if got := len(take(t, channel, "closed")); got < stored {
		t.Errorf("stored %d, and %d are acknowledged", got, stored)
	}
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "99", Destination: "k.1"}), drive.Outage, "the sink is closed")
	if len(answers) != 0 {
		t.Errorf("%d more answers", len(answers))
	}
}

func many(t *testing.T, server *broker.Server) {
	channel := open(t, server)
	declare(t, channel, "many", nil)
	sink := newSink(t, sinks.Config{URL: server.URL(), Exchange: "many", MaxPending: 10})
	load := drive.Load{Keys: 50, PerKey: 20, Destination: "k.1"}
	load.Start(t, sink).Wait(t)
	if again := load.Compare(t, ids(take(t, channel, "many"))); again != 0 {
		t.Errorf("%d were stored twice, without a fault", again)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	server := broker.Start(t, broker.Config{})
	declare(t, open(t, server), "faults", nil)
	// A server that is killed may have forgotten what was declared just before.
	server.Stop(t)
	server.Restart(t)
	t.Run("killed", func(t *testing.T) {
		sink := newSink(t, sinks.Config{URL: server.URL(), Exchange: "faults"})
		load := drive.Load{Keys: 50, PerKey: 30, Destination: "k.1"}
		run := load.Start(t, sink)
		for n := range int64(2) {
			drive.Until(t, "messages are stored", func() bool { done, _ := run.Done(); return done > 500*(n+1) })
			server.Kill()
			_, failed := run.Done()
			drive.Until(t, "messages fail", func() bool { _, now := run.Done(); return now > failed })
			server.Restart(t)
		}
		run.Wait(t)
		again := load.Compare(t, ids(take(t, open(t, server), "faults")))
		if _, failed := run.Done(); int64(again) > failed {
			t.Errorf("%d were stored again, after %d failures", again, failed)
		}
	})
	// A server that does not answer holds no more than MaxPending, and each is answered in time.
	t.Run("frozen", func(t *testing.T) {
		sink := newSink(t, sinks.Config{URL: server.URL(), Exchange: "faults", MaxPending: 8, AckTimeout: 200 * time.Millisecond})
		drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "0", Destination: "k.1"}), drive.Stored, "")
		server.Freeze(t)
		defer server.Thaw()
		answers := make(chan error, 100)
		ctx, cancel := context.WithCancel(t.Context())
		var senders sync.WaitGroup
		for n := range 20 {
			senders.Go(func() {
				sink.Send(ctx, &relay.Message{ID: fmt.Sprint(n + 1), Destination: "k.1"}, func(err error) { answers <- err })
			})
		}
		drive.Want(t, <-answers, drive.Again, "no answer within 200ms")
		cancel()
		for range 19 {
			if err := <-answers; err == nil {
				t.Error("stored by a frozen server")
			}
		}
		senders.Wait()
		// What was given up is not forgotten for ever: the connection ends.
		drive.Until(t, "the connection is given up", func() bool {
			return strings.Contains(drive.Send(t, sink, &relay.Message{ID: "more", Destination: "k.1"}).Error(), "leaves too many messages unconfirmed")
		})
		server.Thaw()
		drive.Until(t, "it serves again", func() bool { return drive.Send(t, sink, &relay.Message{ID: "last", Destination: "k.1"}) == nil })
		got := ids(take(t, open(t, server), "faults"))
		if got = slices.DeleteFunc(got, func(id string) bool { return id == "last" }); len(got) > 1+8+8 {
			t.Errorf("%v are stored: more were in flight, and given up, than MaxPending", got)
		}
	})
	// A frozen server reads nothing, so a large message fills the buffers in between, and the client waits while it writes.
	t.Run("closed while it writes", func(t *testing.T) {
		sink := newSink(t, sinks.Config{URL: server.URL(), Exchange: "faults"})
		drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "0", Destination: "k.1"}), drive.Stored, "")
		server.Freeze(t)
		defer server.Thaw()
		answers := make(chan error, 2)
		var sender sync.WaitGroup
		sender.Go(func() {
			sink.Send(t.Context(), &relay.Message{ID: "1", Destination: "k.1", Body: bytes.Repeat([]byte("x"), 50<<20)}, func(err error) { answers <- err })
		})
		begun := time.Now()
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
		if err := <-answers; err == nil {
			t.Error("stored by a frozen server")
		}
		sender.Wait()
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("closed after %v", took)
		}
		server.Thaw()
	})
	// Without a limit of its own, a write to a server that stays frozen would never end: the client cannot close a connection meanwhile.
	t.Run("frozen while it writes", func(t *testing.T) {
		sink := newSink(t, sinks.Config{URL: server.URL(), Exchange: "faults", AckTimeout: time.Second})
		drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "0", Destination: "k.1"}), drive.Stored, "")
		server.Freeze(t)
		defer server.Thaw()
		answers, returned := make(chan error, 1), make(chan struct{})
		go func() {
			defer close(returned)
			sink.Send(t.Context(), &relay.Message{ID: "1", Destination: "k.1", Body: make([]byte, 50<<20)}, func(err error) { answers <- err })
		}()
		drive.Want(t, <-answers, drive.Again, "no answer within 1s")
		select {
		case <-returned:
		case <-time.After(time.Minute):
			t.Error("Send does not return")
		}
	})
	// The server has too little memory or disk: it says so, and takes nothing.
	t.Run("blocked", func(t *testing.T) {
		server.Kill()
		server.Reconfigure(t, broker.Config{Text: "vm_memory_high_watermark.absolute = 1MB"})
		server.Restart(t)
		sink := newSink(t, sinks.Config{URL: server.URL(), Exchange: "faults", AckTimeout: time.Second})
		m := &relay.Message{ID: "1", Destination: "k.1"}
		var err error
		drive.Until(t, "the server says that it is blocked", func() bool {
			err = drive.Send(t, sink, m)
			return drive.Kind(err) == drive.Outage
		})
		drive.Want(t, err, drive.Outage, "free memory or disk on the server")
	})
}
