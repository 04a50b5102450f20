package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

// relayFlags is the part of a verb's flags that says what is sent where. Embed it.
type relayFlags struct {
	Config       string         `placeholder:"FILE" env:"SIGNALBOX_RELAY_CONFIG" help:"Run the relays that this YAML file lists, in place of one by flags."`
	To           string         `placeholder:"URL" env:"SIGNALBOX_RELAY_TO" help:"Where to: kafka://HOST:PORT, nats://HOST:PORT, amqp://HOST, https://HOST/PATH, or webhook:/PATH/endpoints.yaml."`
	Subscription string         `placeholder:"NAME" help:"The relay's subscription; it is created where it is missing, and begins with the oldest event."`
	Topics       []string       `placeholder:"PATTERN" help:"Topics of the subscription; repeat for several. Needed if it does not exist."`
	Route        string         `placeholder:"TEMPLATE" help:"Destination: text with {topic}, {topic[0]} or {key}. By default, the topic."`
	Encoding     relay.Encoding `placeholder:"NAME" default:"cloudevents" help:"cloudevents (attributes as headers), cloudevents-structured, or plain."`
	Source       string         `placeholder:"URI" help:"Attribute source of CloudEvents: who publishes. By default /NAME of the outbox."`
	Concurrency  int            `default:"0" help:"Messages in flight. By default 1000."`
	Rate         cli.RateLimit  `default:"unlimited" help:"Messages that may begin per second, in all relays of the subscription together, or unlimited."`
}

// A relaySpec is one relay, as a file has it.
type relaySpec struct {
	Subscription  string            `yaml:"subscription"`
	Topics        []string          `yaml:"topics"`
	To            string            `yaml:"to"`
	Route         string            `yaml:"route"`
	Routes        []routeSpec       `yaml:"routes"`
	Encoding      string            `yaml:"encoding"`
	Source        string            `yaml:"source"`
	Extensions    map[string]string `yaml:"extensions"`
	Concurrency   int               `yaml:"concurrency"`
	Rate          float64           `yaml:"rate"`
	Timeout       time.Duration     `yaml:"timeout"`
	MaxAttempts   int               `yaml:"max_attempts"`
	StopKeyOnDead bool              `yaml:"stop_key_on_dead"`
}

type routeSpec struct {
	Topics []string `yaml:"topics"`
	To     string   `yaml:"to"`
	Drop   bool     `yaml:"drop"`
}

// A relayed is a relay that can be run.
type relayed struct {
	spec   relaySpec
	config relay.Config
	sink   namedSink
	place  string // where it sends to, for people
}

type relayList []*relayed

// close ends the connections of all sinks.
func (l relayList) close() {
	for _, r := range l {
		_ = r.sink.Close() // nothing is in flight
	}
}

// with opens the relays and the database, calls do, and closes both.
func (f *relayFlags) with(ctx context.Context, d cli.Database, do func(*database, relayList) error) error {
	relays, err := f.relays(d.Outbox)
	if err != nil {
		return err
	}
	defer relays.close()
	pool, err := open(ctx, d)
	if err != nil {
		return err
	}
	defer pool.Close()
	return do(pool, relays)
}

// relays makes what the flags or the file say.
func (f *relayFlags) relays(about outbox.Outbox) (list relayList, err error) {
	specs, err := f.specs()
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	defer func() {
		if err != nil {
			list.close()
		}
	}()
	for i, s := range specs {
		if slices.ContainsFunc(specs[:i], func(other relaySpec) bool { return other.Subscription == s.Subscription }) {
			return list, &cli.UsageError{Err: fmt.Errorf("relay %s is there twice: give each its own subscription", plain.Quote(s.Subscription))}
		}
		r, err := s.open(about)
		if err != nil {
			return list, &cli.UsageError{Err: fmt.Errorf("relay %s: %w", plain.Quote(s.Subscription), err)}
		}
		list = append(list, r)
	}
	return list, nil
}

func (f *relayFlags) specs() ([]relaySpec, error) {
	switch {
	case f.Config != "" && (f.To != "" || f.Subscription != "" || len(f.Topics) > 0 || f.Route != "" || f.Source != "" || f.Concurrency != 0 || f.Rate > 0):
		return nil, errors.New("--config says all about relays: leave out the flags about one")
	case f.Config != "":
		return readSpecs(f.Config)
	case f.To == "":
		return nil, errors.New("--to is missing: say where to send, such as --to nats://localhost:4222, or list relays in a file with --config")
	case f.Subscription == "":
		return nil, errors.New("--subscription is missing: name the relay's subscription, such as --subscription to-nats")
	case f.Concurrency < 0:
		return nil, fmt.Errorf("--concurrency is %d, must be at least 1", f.Concurrency)
	}
	return []relaySpec{{
		Subscription: f.Subscription, Topics: f.Topics, To: f.To, Route: f.Route, Encoding: f.Encoding.String(), Source: f.Source,
		Concurrency: f.Concurrency, Rate: float64(f.Rate),
	}}, nil
}

// readSpecs reads a file of relays. What it does not know is an error.
func readSpecs(path string) ([]relaySpec, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the caller names it
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	var file struct {
		Relays []relaySpec `yaml:"relays"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("--config %s: %s", path, plain.Line(err.Error()))
	}
	if len(file.Relays) == 0 {
		return nil, fmt.Errorf("--config %s: it has no relays: list some under the name relays", path)
	}
	for i, s := range file.Relays {
		if s.Subscription == "" || s.To == "" {
			return nil, fmt.Errorf("--config %s: relay %d lacks its subscription, or where it sends to: both are needed", path, i+1)
		}
	}
	return file.Relays, nil
}

// open makes the relay. It does not connect.
func (s relaySpec) open(about outbox.Outbox) (*relayed, error) {
	r := &relayed{spec: s, config: relay.Config{Source: s.Source, Extensions: s.Extensions}}
	if s.Encoding != "" {
		if err := r.config.Encoding.UnmarshalText([]byte(s.Encoding)); err != nil {
			return nil, err
		}
	}
	if s.Source == "" && r.config.Encoding != relay.Plain {
		r.config.Source = "/" + about.String()
	}
	var err error
	if r.config.Route, err = s.router(); err != nil {
		return nil, err
	}
	u, err := url.Parse(s.To)
	if err != nil || u.Scheme == "" { // the error has the URL in it, and that may have a password
		return nil, errors.New("where it sends to is no URL: write one such as kafka://host:9092, nats://host:4222, amqp://host or https://host/path")
	}
	if r.sink, err = openSink(u); err != nil {
		return nil, err
	}
	r.place = plain.Line(r.sink.String())
	if _, err := relay.NewEncoder(r.sink, r.config); err != nil {
		_ = r.sink.Close()
		return nil, err
	}
	return r, nil
}

func (s relaySpec) router() (relay.Router, error) {
	switch {
	case s.Route != "" && len(s.Routes) > 0:
		return nil, errors.New("it has route and routes: use one of them")
	case s.Route != "":
		return relay.Template(s.Route)
	case len(s.Routes) == 0:
		return nil, nil //nolint:nilnil // the default
	}
	rules := make([]relay.Rule, len(s.Routes))
	for i, r := range s.Routes {
		rules[i] = relay.Rule(r)
	}
	return relay.Rules(rules...)
}

// subscription is what the worker is told.
func (s relaySpec) subscription() worker.Subscription {
	sub := worker.Subscription{
		Name: s.Subscription, Topics: s.Topics, Concurrency: s.Concurrency, Rate: s.Rate, Timeout: s.Timeout, StopKeyOnDead: s.StopKeyOnDead,
		Retry: worker.Retry{MaxAttempts: s.MaxAttempts},
	}
	if strings.HasPrefix(s.To, "webhook:") {
		sub.BreakerAfter = worker.Unlimited // each endpoint has a breaker of its own
	}
	return sub
}

// destinations lists where messages go, as far as that is known: those of the given ones, and of topics that are no patterns.
func (l *relayed) destinations(messages []*relay.Message) []string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Destination)
	}
	encoder, err := relay.NewEncoder(l.sink, l.config)
	if err != nil {
		return all
	}
	for _, topic := range l.spec.Topics {
		if m, err := encoder.Message(&outbox.Event{UID: "probe", Topic: topic, Payload: []byte("null")}); err == nil && m != nil && !wild(topic) {
			all = append(all, m.Destination)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
