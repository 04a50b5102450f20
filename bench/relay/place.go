package main

import (
	"context"
	"testing"

	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/relay"
)

// A kind of place that messages go to.
type kind struct {
	name string // of the sink
	// How many messages a second it is given at most, for how long a measurement takes: with many keys, and with one. Rates are compared.
	rate, hotRate float64
	inFlight      int // messages at a time, of the client as of the relay
	start         func(t testing.TB, p *place)
}

// A place is a server that runs, and who sends to it.
type place struct {
	kind
	reset func(ctx context.Context) (destination string, err error) // an empty one, in place of the one before
	sink  func() (relay.Sink, error)
	bare  func() (client, error)
	peer  systems.System // which sends there, too, if there is one
}

// A client sends as the sink does, without the relay.
type client interface {
	// send sends a message, and calls done when it is acknowledged.
	send(ctx context.Context, m *relay.Message, done func(error))
	close()
}

var kinds = []kind{natsKind, kafkaKind, rabbitKind, webhookKind}

func sinkNames() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}
