package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/kafka"
	"github.com/signalbox-go/signalbox/relay/nats"
	"github.com/signalbox-go/signalbox/relay/rabbitmq"
	"github.com/signalbox-go/signalbox/relay/webhook"
)

// A namedSink says where it sends to, without secrets.
type namedSink interface {
	relay.Sink
	fmt.Stringer
}

// sinks has what opens a sink, by the scheme of its URL.
var sinks = map[string]func(*url.URL) (namedSink, error){
	"kafka":   sinkOf(configured(kafka.FromURL, kafka.New)),
	"nats":    sinkOf(configured(nats.FromURL, nats.New)),
	"tls":     sinkOf(configured(nats.FromURL, nats.New)), // of NATS, as its own tools have it
	"amqp":    sinkOf(configured(rabbitmq.FromURL, rabbitmq.New)),
	"amqps":   sinkOf(configured(rabbitmq.FromURL, rabbitmq.New)),
	"http":    sinkOf(webhook.FromURL),
	"https":   sinkOf(webhook.FromURL),
	"webhook": sinkOf(webhook.FromURL),
}

// configured opens a sink with the configuration of a URL.
func configured[C, S any](read func(*url.URL) (C, error), open func(C) (S, error)) func(*url.URL) (S, error) {
	return func(u *url.URL) (S, error) {
		c, err := read(u)
		if err != nil {
			var none S
			return none, err
		}
		return open(c)
	}
}

// sinkOf gives what opens a sink the type that it has in the list.
func sinkOf[S namedSink](open func(*url.URL) (S, error)) func(*url.URL) (namedSink, error) {
	return func(u *url.URL) (namedSink, error) {
		s, err := open(u)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

const sinkHelp = `	kafka://host:9092,other:9092      destinations are topics
	nats://host:4222                  destinations are subjects of JetStream streams
	amqp://host/vhost                 RabbitMQ: destinations are routing keys, or exchange/key
	https://host/path                 one webhook
	webhook:/path/endpoints.yaml      many: destinations are their names
`

// openSink makes the sink of a URL. It does not connect.
func openSink(u *url.URL) (namedSink, error) {
	open := sinks[u.Scheme]
	if open == nil {
		known := make([]string, 0, len(sinks))
		for scheme := range sinks {
			known = append(known, scheme+":")
		}
		slices.Sort(known)
		return nil, fmt.Errorf("nothing is known about %s: URLs, must be one of %s", u.Scheme, strings.Join(known, ", "))
	}
	if _, has := u.User.Password(); has {
		return nil, errors.New("the URL has a password, which all on the machine may see: put it into an environment variable or a file (docs/relay.md)")
	}
	return open(u)
}
