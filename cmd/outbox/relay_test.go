package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/relay"
)

// A shelf is a sink that keeps what it gets, by the host of its URL.
type shelf struct{ host string }

var shelves sync.Map // of *kept, by host

type kept struct {
	mu       sync.Mutex
	messages []*relay.Message
}

func init() {
	sinks["shelf"] = func(u *url.URL) (namedSink, error) {
		shelves.LoadOrStore(u.Host, &kept{})
		return shelf{u.Host}, nil
	}
}

func (s shelf) Send(_ context.Context, m *relay.Message, done func(error)) {
	all, _ := shelves.Load(s.host)
	k := all.(*kept)
	k.mu.Lock()
	k.messages = append(k.messages, m)
	k.mu.Unlock()
	done(nil)
}

func (s shelf) Pipelined() bool { return false }

func (s shelf) String() string { return "shelf://" + s.host }

func (s shelf) Check(_ context.Context, destinations []string) error {
	if i := slices.Index(destinations, "nowhere"); i >= 0 {
		return errors.New("nowhere is not there: create it")
	}
	return nil
}

func (s shelf) Close() error { return nil }

func onShelf(host string) []*relay.Message {
	all, ok := shelves.Load(host)
	if !ok {
		return nil
	}
	k := all.(*kept)
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.messages)
}

func publishToRelay(t *testing.T, db *pgtest.DB, n int) {
	t.Helper()
	for i := range n {
		_, err := outbox.Publish(t.Context(), db.Pool,
			outbox.Event{Topic: "orders.placed", Key: "A-17", Payload: json.RawMessage(`{"n": 1}`)}, outbox.Event{Topic: "orders.draft", Payload: json.RawMessage(`1`)})
		if err != nil {
			t.Fatal(err, i)
		}
	}
}

// TestRelay runs two relays of a file until all is sent, and stops them.
func TestRelay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishToRelay(t, db, 10)
	file := filepath.Join(t.TempDir(), "relays.yaml")
	err := os.WriteFile(file, []byte(`
relays:
  - subscription: one
    topics: [orders.>]
    to: shelf://one
    route: shop.{topic[1]}
    source: https://shop.example
    extensions: {tenantid: x}
  - subscription: two
    topics: [orders.>]
    to: shelf://two
    encoding: plain
    timeout: 5s
    routes:
      - {topics: [orders.draft], drop: true}
      - {to: all}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	var stderr growing // it is the default log of all other tests, too
	go func() {
		ended <- Run(ctx, []string{"relay", "--config", file, "--database-url", db.URL}, &bytes.Buffer{}, &stderr)
	}()
	for start := time.Now(); len(onShelf("one")) < 20 || len(onShelf("two")) < 10; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("sent are %d and %d", len(onShelf("one")), len(onShelf("two")))
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, stderr.String())
	}
	for _, m := range onShelf("one") {
		if m.Destination != "shop."+strings.TrimPrefix(m.Event.Topic, "orders.") || m.Headers["ce-source"] != "https://shop.example" || m.Headers["ce-tenantid"] != "x" {
			t.Errorf("sent is %+v", m)
		}
	}
	for _, m := range onShelf("two") {
		if m.Destination != "all" || m.Event.Topic != "orders.placed" || m.Headers["message-id"] != m.Event.UID {
			t.Errorf("sent is %+v", m)
		}
	}
}

// TestRelayIsShown has "outbox status" and "outbox subscriptions" say where a relay sends to, and how it goes.
func TestRelayIsShown(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if text := succeed(t, db, "status"); strings.Contains(text, "SENDS TO") {
		t.Errorf("status without a relay:\n%s", text)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, []string{"relay", "--to", "shelf://shown", "--subscription", "s", "--topics", ">", "--database-url", db.URL}, &bytes.Buffer{}, &bytes.Buffer{})
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var list struct{ Subscriptions []admin.Subscription }
	for start := time.Now(); len(list.Subscriptions) == 0 || list.Subscriptions[0].SendsTo == ""; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("list: %+v", list)
		}
		decode(t, db, &list, "subscriptions", "list")
	}
	if _, err := db.Pool.Exec(t.Context(), `update outbox.members set last_failure = 'too large', last_failure_at = now()`); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"status"}, {"subscriptions", "list"}, {"subscriptions", "show", "s"}} {
		if text := succeed(t, db, command...); !strings.Contains(text, "shelf://shown") {
			t.Errorf("%v:\n%s", command, text)
		}
	}
	if text := succeed(t, db, "subscriptions", "show", "s"); !strings.Contains(text, "In flight") || !strings.Contains(text, "ago: too large") {
		t.Errorf("show:\n%s", text)
	}
}

// TestRelayDryRun shows what would be sent, and settles nothing.
func TestRelayDryRun(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishToRelay(t, db, 2)
	var out bytes.Buffer
	args := []string{"relay", "run", "--to", "shelf://dry", "--subscription", "s", "--topics", "orders.>", "--route", "{key}", "--dry-run", "--database-url", db.URL}
	if err := Run(t.Context(), args, &out, &growing{}); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Count(text, "A-17") < 2 || !strings.Contains(text, "dead letter: route: the event has no key") || !strings.Contains(text, "shelf://dry") {
		t.Errorf("printed is\n%s", text)
	}
	out.Reset()
	if err := Run(t.Context(), append(args, "--json", "--limit", "1"), &out, &growing{}); err != nil {
		t.Fatal(err)
	}
	var got struct{ Messages []planned }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got.Messages) != 1 || got.Messages[0].Error == "" {
		t.Errorf("%v, %s", err, out.String())
	}
	var subscriptions int
	if err := db.Pool.QueryRow(t.Context(), `select count(*) from outbox.subscriptions`).Scan(&subscriptions); err != nil || subscriptions != 0 || len(onShelf("dry")) != 0 {
		t.Errorf("%v, %d subscriptions, sent: %v", err, subscriptions, onShelf("dry"))
	}
}

// TestRelayCheck tries sinks whose destinations are there, and one whose are not.
func TestRelayCheck(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishToRelay(t, db, 3)
	var out bytes.Buffer
	args := []string{"relay", "check", "--to", "shelf://check", "--subscription", "s", "--topics", "orders.placed", "--database-url", db.URL}
	if err := Run(t.Context(), args, &out, &growing{}); err != nil || !strings.Contains(out.String(), "✔  s → shelf://check: 1 destination, largest of the newest messages 8 bytes") {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, more := range [][]string{{"--route", "nowhere"}, {"--route", "nowhere", "--json"}} {
		out.Reset()
		err := Run(t.Context(), append(slices.Clone(args), more...), &out, &growing{})
		if exit := new(cli.ExitError); !errors.As(err, &exit) || exit.Code != exitSink || !strings.Contains(out.String(), "nowhere is not there: create it") {
			t.Errorf("%v: %v\n%s", more, err, out.String())
		}
	}
}

// TestRelayRefuses has each mistake told in one line, without a password, and with its exit code.
func TestRelayRefuses(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	dir := t.TempDir()
	file := func(text string) string {
		f, err := os.CreateTemp(dir, "*.yaml")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	one := "relays: [{subscription: s, topics: [a], to: 'shelf://x'"
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":           {nil, 2, "--to is missing"},
		"no subscription":   {[]string{"--to", "shelf://x"}, 2, "--subscription is missing"},
		"no URL":            {[]string{"--to", "kafka://me:hunter2@host:x", "--subscription", "s"}, 2, "is no URL"},
		"no scheme":         {[]string{"--to", "localhost", "--subscription", "s"}, 2, "is no URL"},
		"half a URL":        {[]string{"--to", "me:hunter2@host", "--subscription", "s"}, 2, "nothing is known about me: URLs"},
		"Kafka":             {[]string{"--to", "kafka://host:9092?colour=red", "--subscription", "s"}, 2, "colour"},
		"NATS":              {[]string{"--to", "nats://host/path", "--subscription", "s"}, 2, "it has a path"},
		"RabbitMQ":          {[]string{"--to", "amqp://host?colour=red", "--subscription", "s"}, 2, "colour"},
		"webhook":           {[]string{"--to", "https://host/path#colour=red", "--subscription", "s"}, 2, "colour"},
		"no NATS":           {[]string{"--to", "nats://127.0.0.1:1", "--subscription", "s", "--topics", "a"}, 5, "relay s to nats://127.0.0.1:1: "},
		"no Kafka":          {[]string{"--to", "kafka://127.0.0.1:1", "--subscription", "s", "--topics", "a"}, 5, "relay s to kafka://127.0.0.1:1: "},
		"no RabbitMQ":       {[]string{"--to", "amqp://127.0.0.1:1", "--subscription", "s", "--topics", "a"}, 5, "relay s to amqp://127.0.0.1:1: "},
		"unknown scheme":    {[]string{"--to", "mqtt://host", "--subscription", "s"}, 2, "nothing is known about mqtt: URLs"},
		"password":          {[]string{"--to", "shelf://me:hunter2@host", "--subscription", "s"}, 2, "the URL has a password"},
		"template":          {[]string{"--to", "shelf://x", "--subscription", "s", "--route", "{topics}"}, 2, "{topics} is unknown"},
		"encoding":          {[]string{"--to", "shelf://x", "--subscription", "s", "--encoding", "avro"}, 2, "must be cloudevents"},
		"topics":            {[]string{"--to", "shelf://x", "--subscription", "s", "--topics", "a..b"}, 2, "empty token"},
		"unknown":           {[]string{"--to", "shelf://x", "--subscription", "s"}, 3, "unknown subscription"},
		"missing":           {[]string{"--to", "shelf://x", "--subscription", "s", "--topics", "nowhere"}, 5, "relay s to shelf://x: nowhere is not there"},
		"file and flags":    {[]string{"--config", "x", "--to", "shelf://x"}, 2, "leave out the flags"},
		"no file":           {[]string{"--config", filepath.Join(dir, "none")}, 2, "no such file"},
		"empty file":        {[]string{"--config", file("")}, 2, "it has no relays"},
		"unknown field":     {[]string{"--config", file(one + ", password: hunter2}]")}, 2, "field password not found"},
		"lacking":           {[]string{"--config", file("relays: [{subscription: s}]")}, 2, "relay 1 lacks"},
		"twice":             {[]string{"--config", file(one + "}, {subscription: s, to: 'shelf://y'}]")}, 2, "is there twice"},
		"route and routes":  {[]string{"--config", file(one + ", route: a, routes: [{to: b}]}]")}, 2, "use one of them"},
		"attribute":         {[]string{"--config", file(one + ", extensions: {tenant_id: x}}]")}, 2, "tenant_id"},
		"drop and send":     {[]string{"--config", file(one + ", routes: [{to: b, drop: true}]}]")}, 2, "rule 1 has both"},
		"negative attempts": {[]string{"--config", file(one + ", concurrency: -1}]")}, 2, "Concurrency is negative"},
	} {
		var out growing
		err := Run(t.Context(), append([]string{"relay", "run", "--database-url", db.URL}, test.args...), &out, &out)
		code := 1
		if usage, exit := new(cli.UsageError), new(cli.ExitError); errors.As(err, &usage) {
			code = 2
		} else if errors.As(err, &exit) {
			code = exit.Code
		}
		if err == nil || code != test.code || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error()+out.String(), "hunter2") {
			t.Errorf("%s: code %d, %v\n%s", name, code, err, out.String())
		}
	}
}
