package nats_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/signalbox-go/signalbox/brokers/certs"
	"github.com/signalbox-go/signalbox/brokers/drive"
	broker "github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/nats"
)

func TestMain(m *testing.M) {
	broker.Main()
	goleak.VerifyTestMain(m)
}

func newSink(t *testing.T, c sinks.Config) *sinks.Sink {
	t.Helper()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
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

// client returns one for the test itself.
func client(t *testing.T, url string, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url, append(options, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func stream(t *testing.T, js jetstream.JetStream, c jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	if c.Name == "" {
		c.Name = "ORDERS"
	}
	if c.Subjects == nil {
		c.Subjects = []string{"orders.>"}
	}
	s, err := js.CreateStream(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stored returns the messages of a stream.
func stored(t *testing.T, s jetstream.Stream) []*jetstream.RawStreamMsg {
	t.Helper()
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var messages []*jetstream.RawStreamMsg
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m)
	}
	return messages
}

func ids(t *testing.T, s jetstream.Stream) []string {
	t.Helper()
	var ids []string
	for _, m := range stored(t, s) {
		ids = append(ids, m.Header.Get("Nats-Msg-Id"))
	}
	return ids
}

func TestStores(t *testing.T) {
	t.Parallel()
	server := broker.Start(t, "")
	s := stream(t, client(t, server.URL()), jetstream.StreamConfig{})
	sink := newSink(t, sinks.Config{URL: server.URL()})
	if err := sink.Check(t.Context(), []string{"orders.placed"}); err != nil {
		t.Fatal(err)
	}
	m := &relay.Message{
		ID: "id-1", Destination: "orders.placed", ContentType: "application/json", Body: []byte(`{"total":3}`),
		Headers: map[string]string{"ce-id": "id-1", "traceparent": "00-1", "Nats-TTL": "1s"},
	}
	drive.Want(t, drive.Send(t, sink, m), drive.Stored, "")
	drive.Want(t, drive.Send(t, sink, m), drive.Stored, "") // again: the stream knows it
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "id-2", Destination: "orders.gone"}), drive.Stored, "")
	got := stored(t, s)
	if len(got) != 2 || sink.Duplicates() != 1 {
		t.Fatalf("stored %d, %d duplicates", len(got), sink.Duplicates())
	}
	first := fmt.Sprintf("%s %s %v", got[0].Subject, got[0].Data, map[string][]string(got[0].Header))
	if first != `orders.placed {"total":3} map[Content-Type:[application/json] Nats-Msg-Id:[id-1] ce-id:[id-1] traceparent:[00-1]]` {
		t.Errorf("stored %s", first)
	}
	if len(got[1].Data) != 0 {
		t.Errorf("a message without a body has %q", got[1].Data)
	}
}

// What is in flight when the server is killed is sent again, and the stream drops what it has.
func TestKilled(t *testing.T) {
	t.Parallel()
	server := broker.StartProcess(t, "")
	s := stream(t, client(t, server.URL()), jetstream.StreamConfig{})
	sink := newSink(t, sinks.Config{URL: server.URL()})
	load := drive.Load{Keys: 50, PerKey: 100, Destination: "orders.placed"}
	run := load.Start(t, sink)
	for n := range int64(3) {
		drive.Until(t, "messages are stored", func() bool { done, _ := run.Done(); return done > 1000*(n+1) })
		server.Kill()
		_, failed := run.Done()
		drive.Until(t, "messages fail", func() bool { _, now := run.Done(); return now > failed })
		server.Restart(t)
	}
	run.Wait(t)
	drive.Until(t, "the test is connected again", func() bool { _, err := s.Info(t.Context()); return err == nil })
	if again := load.Compare(t, ids(t, s)); again != 0 {
		t.Errorf("%d were stored twice", again)
	}
}

// A server that does not answer holds no more than MaxPending, and each is answered in time.
func TestFrozen(t *testing.T) {
	t.Parallel()
	server := broker.StartProcess(t, "")
	s := stream(t, client(t, server.URL()), jetstream.StreamConfig{})
	sink := newSink(t, sinks.Config{URL: server.URL(), MaxPending: 8, AckTimeout: 500 * time.Millisecond})
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "0", Destination: "orders.x"}), drive.Stored, "")
	server.Freeze(t)
	answers := make(chan error, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for n := range 20 {
		senders.Go(func() {
			sink.Send(ctx, &relay.Message{ID: fmt.Sprint(n + 1), Destination: "orders.x"}, func(err error) { answers <- err })
		})
	}
	drive.Want(t, <-answers, drive.Again, "no answer within 500ms")
	cancel()
	for range 19 {
		if err := <-answers; err == nil {
			t.Error("stored by a frozen server")
		}
	}
	senders.Wait()
	server.Thaw()
	drive.Until(t, "it serves again", func() bool { return drive.Send(t, sink, &relay.Message{ID: "last", Destination: "orders.x"}) == nil })
	if len(answers) != 0 {
		t.Errorf("%d more answers", len(answers))
	}
	if got := len(ids(t, s)); got > 2+8+8 { // two rounds may have begun
		t.Errorf("%d are stored: more were in flight than MaxPending", got)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	server := broker.Start(t, "max_payload: 10000")
	js := client(t, server.URL())
	stream(t, js, jetstream.StreamConfig{MaxMsgSize: 1000})
	stream(t, js, jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full"}, MaxMsgs: 1, Discard: jetstream.DiscardNew})
	stream(t, js, jetstream.StreamConfig{Name: "BYTES", Subjects: []string{"bytes"}, MaxBytes: 300, Discard: jetstream.DiscardNew})
	stream(t, js, jetstream.StreamConfig{Name: "HUGE", Subjects: []string{"huge"}, MaxBytes: 1 << 20})
	stream(t, js, jetstream.StreamConfig{Name: "SUBJECT", Subjects: []string{"each.*"}, MaxMsgsPerSubject: 1, DiscardNewPerSubject: true, Discard: jetstream.DiscardNew})
	conn := js.Conn()
	if _, err := conn.Subscribe("plain", func(m *nats.Msg) { _ = m.Respond([]byte("hello")) }); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	sink := newSink(t, sinks.Config{URL: server.URL()})
	n := 0
	send := func(subject string, size int) error {
		n++
		return drive.Send(t, sink, &relay.Message{ID: fmt.Sprint(n), Destination: subject, Body: bytes.Repeat([]byte("x"), size)})
	}
	drive.Want(t, send("orders.x", 20000), drive.Dead, "larger than max_payload of the server, 10000")
	drive.Want(t, send("orders.x", 2000), drive.Dead, "raise max_msg_size of the stream")
	drive.Want(t, send("orders.x", 10), drive.Stored, "")
	drive.Want(t, send("orders.*", 10), drive.Dead, "it is a wildcard")
	drive.Want(t, send("nowhere", 10), drive.Outage, `no stream takes subject "nowhere": create one with nats stream add`)
	drive.Want(t, send("full", 10), drive.Stored, "")
	drive.Want(t, send("full", 10), drive.Outage, "maximum messages exceeded")
	drive.Want(t, send("bytes", 500), drive.Again, "maximum bytes exceeded")
	drive.Want(t, send("bytes", 10), drive.Stored, "")
	drive.Want(t, send("each.a", 10), drive.Stored, "")
	drive.Want(t, send("each.a", 10), drive.Again, "maximum messages per subject exceeded")
	drive.Want(t, send("each.b", 10), drive.Stored, "")
	drive.Want(t, send("plain", 10), drive.Again, "something that is no stream")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "h", Destination: "orders.x", Headers: map[string]string{"a:b": "c"}}), drive.Dead, "orders.x")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "h", Destination: "huge", Headers: map[string]string{"h": strings.Repeat("x", 9000)}}), drive.Stored, "")
}

// JetStream has no room left: that is nobody's message's fault.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	server := broker.Start(t, "accounts { A { users: [{user: u, password: p}], jetstream: {max_file: 2000} } }")
	js := client(t, server.URL(), nats.UserInfo("u", "p"))
	stream(t, js, jetstream.StreamConfig{})
	sink := newSink(t, sinks.Config{URL: server.URL(), User: "u", Password: "p"})
	for n := range 100 {
		err := drive.Send(t, sink, &relay.Message{ID: fmt.Sprint(n), Destination: "orders.x", Body: make([]byte, 300)})
		if err != nil {
			drive.Want(t, err, drive.Outage, "free space")
			return
		}
	}
	t.Error("there is always room")
}

const users = `authorization { users: [
	{user: all, password: secret}
	{user: reader, password: secret, permissions: {publish: ["$JS.API.>"], subscribe: [">"]}}
	{user: writer, password: secret, permissions: {publish: ["orders.>"], subscribe: ["_INBOX.>"]}}
	{user: deaf, password: secret, permissions: {publish: [">"], subscribe: ["orders.>"]}}
] }`

func TestPermissions(t *testing.T) {
	t.Parallel()
	server := broker.Start(t, users)
	stream(t, client(t, server.URL(), nats.UserInfo("all", "secret")), jetstream.StreamConfig{})
	var logs bytes.Buffer
	as := func(user string) *sinks.Sink {
		return newSink(t, sinks.Config{URL: server.URL(), User: user, Password: "secret", Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	}
	m := &relay.Message{ID: "1", Destination: "orders.x"}

	drive.Want(t, drive.Send(t, as("reader"), m), drive.Outage, `the user may not publish to "orders.x": allow it in its permissions`)
	drive.Want(t, drive.Send(t, as("deaf"), m), drive.Outage, "allow it to subscribe to _INBOX.>")
	drive.Want(t, as("deaf").Check(t.Context(), []string{"orders.x"}), drive.Again, "allow it to subscribe to _INBOX.>")

	writer := as("writer")
	drive.Want(t, writer.Check(t.Context(), []string{"orders.x"}), drive.Stored, "")
	if !strings.Contains(logs.String(), "cannot look at the stream") || !strings.Contains(logs.String(), "$JS.API.STREAM.NAMES") {
		t.Errorf("logged %s", logs.String())
	}
	drive.Want(t, drive.Send(t, writer, m), drive.Stored, "")
	drive.Want(t, drive.Send(t, writer, &relay.Message{ID: "1", Destination: "other"}), drive.Outage, `the user may not publish to "other"`)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	server := broker.Start(t, users)
	js := client(t, server.URL(), nats.UserInfo("all", "secret"))
	stream(t, js, jetstream.StreamConfig{Duplicates: time.Second})
	var logs bytes.Buffer
	c := sinks.Config{URL: server.URL(), User: "all", Password: "secret", Logger: slog.New(slog.NewTextHandler(&logs, nil))}
	sink := newSink(t, c)
	drive.Want(t, sink.Check(t.Context(), []string{"orders.x"}), drive.Stored, "")
	if !strings.Contains(logs.String(), "duplicate_window=1s minimum=2m0s") {
		t.Errorf("logged %s", logs.String())
	}
	drive.Want(t, sink.Check(t.Context(), []string{"orders.x", "invoices.x"}), drive.Again, `no stream takes subject "invoices.x": create one with`)
	drive.Want(t, sink.Check(t.Context(), []string{"orders..x"}), drive.Again, "it has an empty token")

	c.Password = "wrong-secret"
	wrong := newSink(t, c)
	err := wrong.Check(t.Context(), nil)
	drive.Want(t, err, drive.Again, "set the user and password")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v tells the password", err)
	}
	drive.Until(t, "the reason is known", func() bool {
		err = drive.Send(t, wrong, &relay.Message{ID: "1", Destination: "orders.x"})
		return strings.Contains(err.Error(), "set the user and password")
	})
	drive.Want(t, err, drive.Outage, "Authorization Violation")
}

func TestWithoutJetStream(t *testing.T) {
	t.Parallel()
	server := broker.Start(t, "accounts { A { users: [{user: u, password: p}] } }")
	sink := newSink(t, sinks.Config{URL: server.URL(), User: "u", Password: "p"})
	drive.Want(t, sink.Check(t.Context(), []string{"orders.x"}), drive.Again, "enable JetStream for the account")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "1", Destination: "orders.x"}), drive.Outage, "no stream takes subject")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, others := certs.New(t, t.TempDir()), certs.New(t, t.TempDir())
	server := broker.Start(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", ours.Cert, ours.Key, ours.CA))
	url := "tls://" + server.Address
	stream(t, client(t, url, nats.RootCAs(ours.CA), nats.ClientCert(ours.Cert, ours.Key)), jetstream.StreamConfig{})
	sink := newSink(t, sinks.Config{URL: url, CAFile: ours.CA, CertFile: ours.Cert, KeyFile: ours.Key})
	drive.Want(t, sink.Check(t.Context(), []string{"orders.x"}), drive.Stored, "")
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "1", Destination: "orders.x"}), drive.Stored, "")
	wrong := newSink(t, sinks.Config{URL: url, CAFile: others.CA, CertFile: ours.Cert, KeyFile: ours.Key})
	drive.Want(t, wrong.Check(t.Context(), nil), drive.Again, "set the CA file")
	anonymous := newSink(t, sinks.Config{URL: url, CAFile: ours.CA})
	drive.Want(t, anonymous.Check(t.Context(), nil), drive.Again, "client certificate")
}

// A server that is away when the sink begins is connected to when it is there.
func TestAway(t *testing.T) {
	t.Parallel()
	server := broker.StartProcess(t, "")
	stream(t, client(t, server.URL()), jetstream.StreamConfig{})
	server.Kill()
	sink := newSink(t, sinks.Config{URL: server.URL()})
	drive.Want(t, sink.Check(t.Context(), nil), drive.Again, "start the server, or correct the address")
	m := &relay.Message{ID: "1", Destination: "orders.x"}
	drive.Want(t, drive.Send(t, sink, m), drive.Outage, "not connected to "+server.URL())
	server.Restart(t)
	drive.Until(t, "it is connected", func() bool { return drive.Send(t, sink, m) == nil })
}

// What is in flight when the sink is closed is answered, and what comes later, too.
func TestClose(t *testing.T) {
	t.Parallel()
	server := broker.StartProcess(t, "")
	stream(t, client(t, server.URL()), jetstream.StreamConfig{})
	sink := newSink(t, sinks.Config{URL: server.URL(), AckTimeout: 3 * time.Second})
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "0", Destination: "orders.x"}), drive.Stored, "")
	server.Freeze(t)
	answers := make(chan error, 100)
	for n := range 10 {
		sink.Send(t.Context(), &relay.Message{ID: fmt.Sprint(n + 1), Destination: "orders.x"}, func(err error) { answers <- err })
	}
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
	for range 10 {
		drive.Want(t, <-answers, drive.Again, "the sink is closed")
	}
	drive.Want(t, drive.Send(t, sink, &relay.Message{ID: "99", Destination: "orders.x"}), drive.Outage, "the sink is closed")
	server.Thaw()
	if len(answers) != 0 {
		t.Errorf("%d more answers", len(answers))
	}
}
