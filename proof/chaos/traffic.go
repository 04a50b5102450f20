package main

import (
	"math"
	"time"
)

// A topic is one of those that are published to.
type topic uint8

const (
	placed topic = iota
	paid
	stock
	created // of the signals that the producer stores
)

var topicNames = [...]string{"chaos.orders.placed", "chaos.orders.paid", "chaos.stock", "signals.created"}

func (t topic) String() string { return topicNames[t] }

// An act is what handlers do with an event: those up to kill, that of the subscription flaky, the others, that of mail. It is in the
// payload.
type act uint8

const (
	succeed act = iota
	failOnce
	failTwice
	panicOnce
	slow // longer than a window waits
	hang // until its timeout, the first time
	giveUp
	skip
	fail // until its attempts are used up
	kill // kills its process, each time

	laborious // takes a while
	refused   // fails for as long as the endpoint is dead
	bulk      // one of very many of its transaction
)

// fatal reports whether no attempt succeeds, so that the event ends as a dead letter, or skipped.
func (a act) fatal() bool { return a >= giveUp && a <= kill }

// burdens reports whether the event is one of those that a fault has burdened a key with: that key may wait, and no other.
func (a act) burdens() bool { return a >= laborious }

// A payload is that of an event of a publishing client; for those that the producer makes of signals, Value has the number.
type payload struct {
	Number int64   `json:"number"`
	Act    act     `json:"act,omitempty"`
	Value  float64 `json:"value,omitempty"`
}

func (p payload) number() int64 {
	if p.Number != 0 {
		return p.Number
	}
	return int64(p.Value)
}

// A form is how a subscription is handled.
type form string

const (
	perEvent  form = "Handle"
	batches   form = "HandleBatch"
	inTx      form = "HandleTx"
	inBatchTx form = "HandleBatchTx"
	strict    form = "HandleAsync, strict"
	pipelined form = "HandleAsync, pipelined"
)

// inTx reports whether effects are in the database, and count once.
func (s *subscription) inTx() bool { return s.form == inTx || s.form == inBatchTx }

// A subscription is one that is under test.
type subscription struct {
	name   string
	form   form
	topics []string
	sees   []topic // what matches topics, said in another way than the product's
	flaky  bool    // whether its handlers fail

	parkAfter time.Duration // how long its windows wait for a handler
}

// The subscriptions, by the number that reports have.
var subscriptions = [...]subscription{
	{name: "mail", form: perEvent, topics: []string{">"}, sees: []topic{placed, paid, stock, created}, parkAfter: time.Second},
	{name: "books", form: inBatchTx, topics: []string{"chaos.>", "signals.created"}, sees: []topic{placed, paid, stock, created}},
	{name: "orders", form: batches, topics: []string{"chaos.orders.*"}, sees: []topic{placed, paid}, parkAfter: math.MaxInt64},
	{name: "flaky", form: perEvent, topics: []string{"chaos.>"}, sees: []topic{placed, paid, stock}, flaky: true, parkAfter: 200 * time.Millisecond},
	{name: "copies", form: batches, topics: []string{"chaos.>"}, sees: []topic{placed, paid, stock}, parkAfter: math.MaxInt64},
	{name: "search", form: perEvent, topics: []string{"chaos.>"}, sees: []topic{placed, paid, stock}, parkAfter: time.Second},
	{name: "feed", form: strict, topics: []string{"chaos.>"}, sees: []topic{placed, paid, stock}, parkAfter: time.Second},
	{name: "stream", form: pipelined, topics: []string{"chaos.>"}, sees: []topic{placed, paid, stock}, parkAfter: time.Second},
	{name: "accounts", form: inTx, topics: []string{"signals.created"}, sees: []topic{created}},
	{name: "totals", form: inBatchTx, topics: []string{"signals.*"}, sees: []topic{created}},
	{name: "index", form: perEvent, topics: []string{"signals.>"}, sees: []topic{created}, parkAfter: time.Second},
	{name: "archive", form: batches, topics: []string{"signals.created"}, sees: []topic{created}, parkAfter: math.MaxInt64},
}

const (
	mail = iota
	books
	orders
	flaky // of its own processes; the others are served together
)

func (s *subscription) wants(t topic) bool {
	for _, seen := range s.sees {
		if seen == t {
			return true
		}
	}
	return false
}
