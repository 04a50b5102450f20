// Package systems puts Signalbox, and what package peers compares it with, behind one small interface.
package systems

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Topic is the one that all events have.
const Topic = "bench.placed"

// DefaultSubscription is whom events are delivered to, where a scenario does not ask for several.
const DefaultSubscription = "bench"

// An Event is what a scenario publishes.
type Event struct {
	Topic   string // "" is Topic
	Key     string
	Payload json.RawMessage
}

// WithTopic is the name of a subscription to a topic of its own.
func WithTopic(name, topic string) string { return name + "=" + topic }

// TopicOf returns a subscription's name, and its topic.
func TopicOf(subscription string) (name, topic string) {
	name, topic, _ = strings.Cut(subscription, "=")
	return name, cmp.Or(topic, Topic)
}

// A Handler is called with the payload of each event, as JSON. It is safe for concurrent use.
type Handler func(ctx context.Context, payload []byte) error

// A System is one way to publish events in PostgreSQL and to have them delivered, with one choice of settings.
type System interface {
	Info() Info
	// Setup creates what the system needs in an empty database.
	Setup(ctx context.Context, pool *pgxpool.Pool) error
	// Publish writes events in the caller's transaction. It may be called by many at once.
	Publish(ctx context.Context, tx pgx.Tx, events []Event) error
	// Run delivers events to the handler, for each subscription, whose topic may be part of its name (see WithTopic), until ctx is cancelled. It then finishes what it began, and
	// returns nil.
	Run(ctx context.Context, pool *pgxpool.Pool, subscriptions []string, handle Handler) error
}

// Info says what a system is and does.
type Info struct {
	Name     string // "river-best"
	Module   string // whose version is reported; "" for what is written here
	Settings string // for the report
	// Rate is roughly how many events a second it delivers from a backlog on two cores. It only bounds how many a scenario gives
	// it, so that slow systems do not take hours: rates are what is compared. Infinite for one that gets all.
	Rate float64
	// Concurrency is how many handlers of a process run at once.
	Concurrency int
	TakesTurns  bool // several processes are no faster than one
	Fanout      bool // several subscriptions see each event
	Offers      Offers
}

// Offers is what a system promises beside its speed, each in few words: "yes", "no", or what it takes.
type Offers struct {
	Fanout       string `json:"fanout"`
	Order        string `json:"order"`
	ExactlyOnce  string `json:"exactly_once"`
	Takeover     string `json:"takeover"`
	LostWakeup   string `json:"lost_wakeup"`
	HeldSnapshot string `json:"held_snapshot"`
	DeadLetters  string `json:"dead_letters"`
	Replay       string `json:"replay"`
}

// Find returns the system with a name.
func Find(list []System, name string) (System, error) {
	for _, s := range list {
		if s.Info().Name == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no system is called %q: there are %s", name, strings.Join(Names(list), ", "))
}

// Names returns those of systems.
func Names(list []System) []string {
	var names []string
	for _, s := range list {
		names = append(names, s.Info().Name)
	}
	return names
}

// Quiet is a logger for what logs each event or each poll.
var Quiet = slog.New(slog.DiscardHandler)
