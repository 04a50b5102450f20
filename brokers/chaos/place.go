package main

import (
	"context"
	"encoding/json"
	"strconv"
	"testing"

	"github.com/signalbox-go/signalbox/relay"
)

// A place is a kind of system that a relay sends to.
type place struct {
	name   string
	poison int                                  // bytes of a payload that it refuses for good
	start  func(t testing.TB, w *world) *broker // the proxy is the world's
	open   func(url string) (relay.Sink, error) // in a relay's process
	own    []kind                               // faults that others do not have
}

// A broker is a system that runs, behind the proxy.
type broker struct {
	url         string // of the sink, through the proxy
	destination string

	kill, thaw      func()
	restart, freeze func(t testing.TB)

	// begin and end make a fault of the place's own, which may last while the broker comes and goes. They may fail and are called again.
	begin, end func(ctx context.Context, t testing.TB, fault string) error

	// received returns all that is stored, in order by key.
	received func(ctx context.Context, t testing.TB) ([]received, error)
}

// A received is a message as the broker has it.
type received struct {
	id     string
	number int64 // of the event, by the body
	sender int   // the relay's process
}

// newReceived reads a message. One that is no event's has the number 0.
func newReceived(id, sender string, body []byte) received {
	var p payload
	r := received{id: id}
	if json.Unmarshal(body, &p) == nil {
		r.number = p.Number
	}
	r.sender, _ = strconv.Atoi(sender)
	return r
}

// The header that says which relay has sent a message.
const senderHeader = "sender"

var places = []place{natsPlace, kafkaPlace, rabbitPlace, webhookPlace}

func sinkNames() (names []string) {
	for _, p := range places {
		names = append(names, p.name)
	}
	return names
}

// kinds are the faults that may come.
func (p *place) kinds() []kind { return append(kinds[:len(kinds):len(kinds)], p.own...) }
