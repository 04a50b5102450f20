package nats_test

import (
	"bytes"
	"context"
	"errors"
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
	"github.com/signalbox-go/signalbox/worker"
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

const (
	again  = "again"
	dead   = "dead letter"
	outage = "outage"
)

// kind tells what an error asks of the worker, by its text: the worker alone can tell it otherwise.
func kind(err error) string {
	switch {
	case err == nil:
		return "stored"
	case strings.HasPrefix(err.Error(), worker.DeadLetter(errors.New("")).Error()):
		return dead
	case strings.HasPrefix(err.Error(), worker.Outage(errors.New("")).Error()):
		return outage
	default:
		return again
	}
}

// want compares an error with its kind and a part of its text.
func want(t *testing.T, err error, is, part string) {
	t.Helper()
	if kind(err) != is || err != nil && (!strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n")) {
		t.Errorf("ended as %q (%v), want %q with %q in one line", kind(err), err, is, part)
	}
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
	want(t, drive.Send(t, sink, m), "stored", "")
	want(t, drive.Send(t, sink, m), "stored", "") // again: the stream knows it
	want(t, drive.Send(t, sink, &relay.Message{ID: "id-2", Destination: "orders.gone"}), "stored", "")
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
	want(t, drive.Send(t, sink, &relay.Message{ID: "0", Destination: "orders.x"}), "stored", "")
	server.Freeze(t)
	answers := make(chan error, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for n := range 20 {
		senders.Go(func() {
			sink.Send(ctx, &relay.Message{ID: fmt.Sprint(n + 1), Destination: "orders.x"}, func(err error) { answers <- err })
		})
	}
	want(t, <-answers, again, "no answer within 500ms")
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
	want(t, send("orders.x", 20000), dead, "larger than max_payload of the server, 10000")
	want(t, send("orders.x", 2000), dead, "raise max_msg_size of the stream")
	want(t, send("orders.x", 10), "stored", "")
	want(t, send("orders.*", 10), dead, "it is a wildcard")
	want(t, send("nowhere", 10), outage, `no stream takes subject "nowhere": create one with nats stream add`)
	want(t, send("full", 10), "stored", "")
	want(t, send("full", 10), outage, "maximum messages exceeded")
	want(t, send("bytes", 500), again, "maximum bytes exceeded")
	want(t, send("bytes", 10), "stored", "")
	want(t, send("each.a", 10), "stored", "")
	want(t, send("each.a", 10), again, "maximum messages per subject exceeded")
	want(t, send("each.b", 10), "stored", "")
	want(t, send("plain", 10), again, "something that is no stream")
	want(t, drive.Send(t, sink, &relay.Message{ID: "h", Destination: "orders.x", Headers: map[string]string{"a:b": "c"}}), dead, "orders.x")
	want(t, drive.Send(t, sink, &relay.Message{ID: "h", Destination: "huge", Headers: map[string]string{"h": strings.Repeat("x", 9000)}}), "stored", "")
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
			want(t, err, outage, "free space")
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

	want(t, drive.Send(t, as("reader"), m), outage, `the user may not publish to "orders.x": allow it in its permissions`)
	want(t, drive.Send(t, as("deaf"), m), outage, "allow it to subscribe to _INBOX.>")
	want(t, as("deaf").Check(t.Context(), []string{"orders.x"}), again, "allow it to subscribe to _INBOX.>")

	writer := as("writer")
	want(t, writer.Check(t.Context(), []string{"orders.x"}), "stored", "")
	if !strings.Contains(logs.String(), "cannot look at the stream") || !strings.Contains(logs.String(), "$JS.API.STREAM.NAMES") {
		t.Errorf("logged %s", logs.String())
	}
	want(t, drive.Send(t, writer, m), "stored", "")
	want(t, drive.Send(t, writer, &relay.Message{ID: "1", Destination: "other"}), outage, `the user may not publish to "other"`)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	server := broker.Start(t, users)
	js := client(t, server.URL(), nats.UserInfo("all", "secret"))
	stream(t, js, jetstream.StreamConfig{Duplicates: time.Second})
	var logs bytes.Buffer
	c := sinks.Config{URL: server.URL(), User: "all", Password: "secret", Logger: slog.New(slog.NewTextHandler(&logs, nil))}
	sink := newSink(t, c)
	want(t, sink.Check(t.Context(), []string{"orders.x"}), "stored", "")
	if !strings.Contains(logs.String(), "duplicate_window=1s minimum=2m0s") {
		t.Errorf("logged %s", logs.String())
	}
	want(t, sink.Check(t.Context(), []string{"orders.x", "invoices.x"}), again, `no stream takes subject "invoices.x": create one with`)
	want(t, sink.Check(t.Context(), []string{"orders..x"}), again, "it has an empty token")

	c.Password = "wrong-secret"
	wrong := newSink(t, c)
	err := wrong.Check(t.Context(), nil)
	want(t, err, again, "set the user and password")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v tells the password", err)
	}
	drive.Until(t, "the reason is known", func() bool {
		err = drive.Send(t, wrong, &relay.Message{ID: "1", Destination: "orders.x"})
		return strings.Contains(err.Error(), "set the user and password")
	})
	want(t, err, outage, "Authorization Violation")
}

func TestWithoutJetStream(t *testing.T) {
	t.Parallel()
	server := broker.Start(t, "accounts { A { users: [{user: u, password: p}] } }")
	sink := newSink(t, sinks.Config{URL: server.URL(), User: "u", Password: "p"})
	want(t, sink.Check(t.Context(), []string{"orders.x"}), again, "enable JetStream for the account")
	want(t, drive.Send(t, sink, &relay.Message{ID: "1", Destination: "orders.x"}), outage, "no stream takes subject")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, others := certs.New(t, t.TempDir()), certs.New(t, t.TempDir())
	server := broker.Start(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", ours.Cert, ours.Key, ours.CA))
	url := "tls://" + server.Address
	stream(t, client(t, url, nats.RootCAs(ours.CA), nats.ClientCert(ours.Cert, ours.Key)), jetstream.StreamConfig{})
	sink := newSink(t, sinks.Config{URL: url, CAFile: ours.CA, CertFile: ours.Cert, KeyFile: ours.Key})
	want(t, sink.Check(t.Context(), []string{"orders.x"}), "stored", "")
	want(t, drive.Send(t, sink, &relay.Message{ID: "1", Destination: "orders.x"}), "stored", "")
	wrong := newSink(t, sinks.Config{URL: url, CAFile: others.CA, CertFile: ours.Cert, KeyFile: ours.Key})
	want(t, wrong.Check(t.Context(), nil), again, "set the CA file")
	anonymous := newSink(t, sinks.Config{URL: url, CAFile: ours.CA})
	want(t, anonymous.Check(t.Context(), nil), again, "client certificate")
}

// A server that is away when the sink begins is connected to when it is there.
func TestAway(t *testing.T) {
	t.Parallel()
	server := broker.StartProcess(t, "")
	stream(t, client(t, server.URL()), jetstream.StreamConfig{})
	server.Kill()
	sink := newSink(t, sinks.Config{URL: server.URL()})
	want(t, sink.Check(t.Context(), nil), again, "start the server, or correct the address")
	m := &relay.Message{ID: "1", Destination: "orders.x"}
	want(t, drive.Send(t, sink, m), outage, "not connected to "+server.URL())
	server.Restart(t)
	drive.Until(t, "it is connected", func() bool { return drive.Send(t, sink, m) == nil })
}

// What is in flight when the sink is closed is answered, and what comes later, too.
func TestClose(t *testing.T) {
	t.Parallel()
	server := broker.StartProcess(t, "")
	stream(t, client(t, server.URL()), jetstream.StreamConfig{})
	sink := newSink(t, sinks.Config{URL: server.URL(), AckTimeout: 3 * time.Second})
	want(t, drive.Send(t, sink, &relay.Message{ID: "0", Destination: "orders.x"}), "stored", "")
	server.Freeze(t)
	answers := make(chan error, 100)
	for n := range 10 {
		sink.Send(t.Context(), &relay.Message{ID: fmt.Sprint(n + 1), Destination: "orders.x"}, func(err error) { answers <- err })
	}
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
	for range 10 {
		want(t, <-answers, again, "the sink is closed")
	}
	want(t, drive.Send(t, sink, &relay.Message{ID: "99", Destination: "orders.x"}), outage, "the sink is closed")
	server.Thaw()
	if len(answers) != 0 {
		t.Errorf("%d more answers", len(answers))
	}
}
