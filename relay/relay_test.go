package relay_test

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

// A nowhere is a sink that only has a prefix.
type nowhere struct {
	relay.Sink
	prefix string
}

func (n nowhere) AttributePrefix() string { return n.prefix }

func event() *outbox.Event {
	return &outbox.Event{
		ID: 17, UID: "019b8b8e-4a0e-7c00-8000-000000000011", Topic: "orders.placed", Key: "A-17", Payload: json.RawMessage(`{"total": 17}`), PublishedAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		Headers: map[string]string{"tenant": "a", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "CE_type": "forged"},
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	e := event()
	message := func(cfg relay.Config) *relay.Message {
		t.Helper()
		encoder, err := relay.NewEncoder(nowhere{prefix: "ce_"}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		m, err := encoder.Message(e)
		if err != nil {
			t.Fatal(err)
		}
		if m.Destination != "orders.placed" || m.Key != "A-17" || m.Event != e || m.ID != e.UID {
			t.Errorf("the message is %+v", m)
		}
		return m
	}
	m := message(relay.Config{Source: "https://shop.example/orders", Extensions: map[string]string{"tenantid": "x"}})
	want := map[string]string{
		"tenant": "a", "traceparent": e.Headers["traceparent"], "ce_id": m.ID, "ce_specversion": "1.0", "ce_source": "https://shop.example/orders",
		"ce_type": "orders.placed", "ce_subject": "A-17", "ce_partitionkey": "A-17", "ce_time": "2026-01-02T03:04:05.000006Z",
		"ce_sequence": "0000000000000000017", "ce_traceparent": e.Headers["traceparent"], "ce_tenantid": "x",
	}
	if diff := cmp.Diff(want, m.Headers); diff != "" || string(m.Body) != `{"total": 17}` || m.ContentType != "application/json" {
		t.Errorf("binary: %s %s %s", m.ContentType, m.Body, diff)
	}
	m = message(relay.Config{Encoding: relay.CloudEventsStructured, Source: "/orders"})
	var body map[string]any
	if err := json.Unmarshal(m.Body, &body); err != nil {
		t.Fatal(err)
	}
	delete(body, "id")
	wantBody := map[string]any{
		"specversion": "1.0", "source": "/orders", "type": "orders.placed", "subject": "A-17", "partitionkey": "A-17", "time": "2026-01-02T03:04:05.000006Z",
		"sequence": "0000000000000000017", "traceparent": e.Headers["traceparent"], "datacontenttype": "application/json", "data": map[string]any{"total": 17.0},
	}
	if diff := cmp.Diff(wantBody, body); diff != "" || m.ContentType != "application/cloudevents+json" {
		t.Errorf("structured: %s %s", m.ContentType, diff)
	}
	m = message(relay.Config{Encoding: relay.Plain})
	want = maps.Clone(e.Headers)
	want["message-id"] = m.ID
	if diff := cmp.Diff(want, m.Headers); diff != "" || string(m.Body) != `{"total": 17}` {
		t.Errorf("plain: %s %s", m.Body, diff)
	}
	e.Payload = json.RawMessage(" null")
	if m = message(relay.Config{Encoding: relay.Plain}); m.Body != nil {
		t.Errorf("a tombstone has the body %q", m.Body)
	}
	if e.Headers["CE_type"] != "forged" || len(e.Headers) != 3 {
		t.Errorf("the event was changed: %v", e.Headers)
	}
}

// TestEncoderRefuses lists what is refused at start.
func TestEncoderRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg  relay.Config
		want string
	}{
		"no source":           {relay.Config{}, "source is empty"},
		"wrong source":        {relay.Config{Source: "::not a URI"}, "source"},
		"attribute":           {relay.Config{Source: "/a", Extensions: map[string]string{"tenant_id": "x"}}, "tenant_id"},
		"own attribute":       {relay.Config{Source: "/a", Extensions: map[string]string{"sequence": "x"}}, "sets this attribute itself"},
		"encoding":            {relay.Config{Source: "/a", Encoding: 7}, "encoding is 7"},
		"source of plain":     {relay.Config{Source: "/a", Encoding: relay.Plain}, "leave them out"},
		"extensions of plain": {relay.Config{Extensions: map[string]string{"a": "x"}, Encoding: relay.Plain}, "leave them out"},
	} {
		if _, err := relay.NewEncoder(nowhere{}, test.cfg); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRoute(t *testing.T) {
	t.Parallel()
	template := func(text string) relay.Router {
		r, err := relay.Template(text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	rules, err := relay.Rules(
		relay.Rule{Topics: []string{"orders.draft"}, Drop: true},
		relay.Rule{Topics: []string{"orders.*", "carts.>"}, To: "shop.{topic[-1]}"},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name       string
		route      relay.Router
		topic, key string
		want       relay.Route
		fault      string
	}{
		{"text", template("all"), "a.b", "k", relay.Route{Destination: "all", Key: "k"}, ""},
		{"topic", template("x-{topic}"), "a.b", "", relay.Route{Destination: "x-a.b"}, ""},
		{"token", template("shop.{topic[1]}.{topic[-2]}"), "a.b", "k", relay.Route{Destination: "shop.b.a", Key: "k"}, ""},
		{"no such token", template("shop.{topic[2]}"), "a.b", "k", relay.Route{}, "has no token 2"},
		{"no such token from the end", template("shop.{topic[-3]}"), "a.b", "k", relay.Route{}, "has no token -3"},
		{"key", template("{key}"), "a.b", "k", relay.Route{Destination: "k", Key: "k", Template: "{key}"}, ""},
		{"no key", template("{key}"), "a.b", "", relay.Route{}, "no key"},
		{"dropped", rules, "orders.draft", "k", relay.Route{Drop: true}, ""},
		{"rule", rules, "orders.placed", "k", relay.Route{Destination: "shop.placed", Key: "k"}, ""},
		{"other topic of the rule", rules, "carts.a.b", "k", relay.Route{Destination: "shop.b", Key: "k"}, ""},
		{"no rule", rules, "mails.sent", "k", relay.Route{}, "no rule is for topic mails.sent"},
	} {
		got, err := test.route(&outbox.Event{Topic: test.topic, Key: test.key})
		if diff := cmp.Diff(test.want, got); diff != "" || (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("%s: %v %s", test.name, err, diff)
		}
	}
	for _, text := range []string{"", "{", "a}", "{topics}", "{topic[x]}", "{topic[1}", "{key"} {
		if _, err := relay.Template(text); err == nil {
			t.Errorf("template %q is taken", text)
		}
	}
	for _, rule := range []relay.Rule{{}, {To: "a", Drop: true}, {Topics: []string{"a..b"}, To: "a"}, {To: "{"}} {
		if _, err := relay.Rules(rule); err == nil {
			t.Errorf("rule %+v is taken", rule)
		}
	}
}

// TestMessageDrops has a Go function route: it adds headers, drops, and leaves events without a route.
func TestMessageDrops(t *testing.T) {
	t.Parallel()
	encoder, err := relay.NewEncoder(nowhere{}, relay.Config{Encoding: relay.Plain, Route: func(e *outbox.Event) (relay.Route, error) {
		switch e.Key {
		case "drop":
			return relay.Route{Drop: true}, nil
		case "nowhere":
			return relay.Route{}, nil
		}
		return relay.Route{Destination: "x", Key: "y", Headers: map[string]string{"tenant": "b"}}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for key, check := range map[string]func(*relay.Message, error) bool{
		"drop":    func(m *relay.Message, err error) bool { return m == nil && err == nil },
		"nowhere": func(_ *relay.Message, err error) bool { return err != nil },
		"": func(m *relay.Message, err error) bool {
			return err == nil && m.Key == "y" && m.Headers["tenant"] == "b"
		},
	} {
		e := event()
		e.Key = key
		if m, err := encoder.Message(e); !check(m, err) {
			t.Errorf("key %q: %+v, %v", key, m, err)
		}
	}
}

// TestHandleRefuses lists what is refused at registration, before the worker is looked at.
func TestHandleRefuses(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"no sink":   relay.Handle(nil, worker.Subscription{Name: "s"}, nil, relay.Config{Encoding: relay.Plain}),
		"no source": relay.Handle(nil, worker.Subscription{Name: "s"}, nowhere{}, relay.Config{}),
		"nil middleware": relay.Handle(new(worker.Worker), worker.Subscription{Name: "s", AsyncMiddleware: []worker.AsyncMiddleware{nil}}, strict{},
			relay.Config{Encoding: relay.Plain}),
	} {
		if !errors.Is(err, worker.ErrInvalidConfig) || !strings.Contains(err.Error(), `subscription "s"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type strict struct{ nowhere }

func (strict) Pipelined() bool { return false }
