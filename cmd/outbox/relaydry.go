package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/relay"
)

// A planned is what would become of an event.
type planned struct {
	Relay       string            `json:"relay"`
	To          string            `json:"to"`
	EventID     int64             `json:"event_id"`
	UID         string            `json:"uid"`
	Topic       string            `json:"topic"`
	Destination string            `json:"destination"`
	Key         string            `json:"key"`
	Headers     map[string]string `json:"headers"`
	ContentType string            `json:"content_type"`
	Bytes       int               `json:"bytes"`
	Dropped     bool              `json:"dropped"`
	Error       string            `json:"error,omitempty"` // it would be a dead letter
}

// dryRun shows where the newest events would go.
func (r *relayRunCommand) dryRun(ctx context.Context, c *console, pool *database, relays relayList) error {
	if err := checkLimit(r.Limit); err != nil {
		return err
	}
	list := []planned{}
	for _, l := range relays {
		encoder, err := relay.NewEncoder(l.sink, l.config)
		if err != nil {
			return err
		}
		events, err := l.newest(ctx, pool, r.Limit)
		if err != nil {
			return err
		}
		for i := range events {
			list = append(list, l.plan(encoder, &events[i]))
		}
	}
	switch {
	case r.JSON:
		return c.print(map[string]any{"messages": list})
	case len(list) == 0:
		return c.write("No event matches.\n")
	}
	var b strings.Builder
	table(&b, "RELAY\tEVENT\tTOPIC\tTO\tDESTINATION\tKEY\tBYTES", list, func(p planned) []string {
		switch {
		case p.Error != "":
			p.Destination = "dead letter: " + p.Error
		case p.Dropped:
			p.Destination = "(dropped)"
		}
		return []string{plain.Quote(p.Relay), strconv.FormatInt(p.EventID, 10), plain.Quote(p.Topic), p.To, plain.Quote(p.Destination), plain.Quote(p.Key), strconv.Itoa(p.Bytes)}
	})
	return c.write(b.String())
}

func (l *relayed) plan(encoder *relay.Encoder, e *outbox.Event) planned {
	p := planned{Relay: l.spec.Subscription, To: l.place, EventID: e.ID, UID: e.UID, Topic: e.Topic}
	switch m, err := encoder.Message(e); {
	case err != nil:
		p.Error = err.Error()
	case m == nil:
		p.Dropped = true
	default:
		p.Destination, p.Key, p.Headers, p.ContentType, p.Bytes = m.Destination, m.Key, m.Headers, m.ContentType, len(m.Body)
	}
	return p
}

// newest returns the newest events of a relay's topics, in their order. It settles nothing.
func (l *relayed) newest(ctx context.Context, pool *database, limit int) ([]outbox.Event, error) {
	topics, err := l.topics(ctx, pool)
	if err != nil {
		return nil, err
	}
	found := map[int64]outbox.Event{}
	for _, topic := range topics {
		page, err := admin.ListNewestEvents(ctx, pool, admin.EventFilter{Topic: topic}, admin.ListOptions{Limit: limit})
		if err != nil {
			return nil, err
		}
		for _, e := range page.Items {
			found[e.ID] = e
		}
	}
	events := make([]outbox.Event, 0, len(found))
	for _, e := range found {
		events = append(events, e)
	}
	slices.SortFunc(events, func(a, b outbox.Event) int { return int(a.ID - b.ID) })
	return events[max(0, len(events)-limit):], nil
}

// topics returns a relay's topics or, where it does not say, those that its subscription has.
func (l *relayed) topics(ctx context.Context, pool *database) ([]string, error) {
	if len(l.spec.Topics) > 0 {
		return l.spec.Topics, nil
	}
	list, err := admin.ListSubscriptions(ctx, pool)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if s.Name == l.spec.Subscription {
			return s.Topics, nil
		}
	}
	return nil, fmt.Errorf("subscription %q: %w, and no topics are given to create it with", l.spec.Subscription, outbox.ErrUnknownSubscription)
}

// wild reports whether a topic is a pattern.
func wild(topic string) bool { return strings.ContainsAny(topic, "*>") }
