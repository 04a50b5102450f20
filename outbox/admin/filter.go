package admin

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/internal/storable"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// ErrInvalidFilter says that a filter, or an option that came with it, is invalid.
var ErrInvalidFilter = errors.New("invalid filter")

// A DeliveryFilter chooses deliveries. Its fields narrow it down; those left out match everything.
type DeliveryFilter struct {
	Subscription string         // its name. Required
	States       []outbox.State // Defaults to Dead. What waits behind an earlier one of its key is Blocked, and not Retrying
	IDs          []int64        // of the events
	Topic        string         // a pattern
	Key          string         // of the events
	Error        string         // part of the last failure's text
	Since, Until time.Time      // when it became a delivery: from Since on, and before Until
}

// filterSQL is the condition of a DeliveryFilter, in terms of its first eight parameters, but for what tells blocked ones from others.
const filterSQL = `
    d.subscription_id = (select s.id from outbox.subscriptions s where s.name = $1)
and d.state = any ($2::text[])
and ($3::bigint[] is null or d.event_id = any ($3::bigint[]))
and ($4 = '' or d.topic ~ $4)
and ($5 = '' or d.key = $5)
and ($6 = '' or position($6 in d.errors -> -1 ->> 'error') > 0)
and ($7::timestamptz is null or d.created_at >= $7)
and ($8::timestamptz is null or d.created_at < $8)`

// behindSQL is whether a delivery d waits behind an earlier one of its key: one probe of index deliveries_line.
const behindSQL = `exists (
    select from outbox.deliveries h
    where h.subscription_id = d.subscription_id and h.lane = d.lane and h.key = d.key and h.event_id < d.event_id
      and h.key is not null and (h.state in ('retrying', 'running') or h.stops_key))`

// where is the condition of the filter, in terms of its first eight parameters. Only what has state retrying is probed, and only where
// that has to be told from what is blocked: an "or" keeps the planner from a join.
func (f DeliveryFilter) where() string {
	switch retrying, blocked := slices.Contains(f.States, outbox.Retrying), slices.Contains(f.States, Blocked); {
	case retrying && !blocked:
		return filterSQL + ` and (d.state <> 'retrying' or not ` + behindSQL + `)`
	case blocked && !retrying:
		return filterSQL + ` and (d.state <> 'retrying' or ` + behindSQL + `)`
	default:
		return filterSQL
	}
}

// stored are the filter's states as table deliveries has them.
func (f DeliveryFilter) stored() []string {
	if len(f.States) == 0 {
		return []string{string(outbox.Dead)}
	}
	var states []string
	for _, state := range f.States {
		if state == Blocked {
			state = outbox.Retrying
		}
		states = append(states, string(state))
	}
	return states
}

// check refuses what chooses nothing, or what the server would refuse without saying which field it means.
func (f DeliveryFilter) check() error {
	const unstorable = "%w: %s is not UTF-8 text without zero bytes"
	switch {
	case f.Subscription == "":
		return fmt.Errorf("%w: it names no subscription", ErrInvalidFilter)
	case !storable.Text(f.Subscription):
		return fmt.Errorf(unstorable, ErrInvalidFilter, "subscription")
	case !storable.Text(f.Key):
		return fmt.Errorf(unstorable, ErrInvalidFilter, "key")
	case !storable.Text(f.Error):
		return fmt.Errorf(unstorable, ErrInvalidFilter, "error")
	}
	for _, state := range f.States {
		switch state {
		case outbox.Retrying, outbox.Running, outbox.Dead, outbox.Skipped, Blocked:
		default:
			return fmt.Errorf("%w: there is no state %q", ErrInvalidFilter, string(state))
		}
	}
	if f.Topic != "" {
		if fault := topic.PatternFault(f.Topic); fault != "" {
			return fmt.Errorf("%w: topic %s", ErrInvalidFilter, fault)
		}
	}
	return nil
}

// args are the parameters of where, followed by more.
func (f DeliveryFilter) args(more ...any) ([]any, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	regex := ""
	if f.Topic != "" {
		regex = topic.Patterns{f.Topic}.Regex()
	}
	return append([]any{f.Subscription, f.stored(), f.IDs, regex, f.Key, f.Error, optional(f.Since), optional(f.Until)}, more...), nil
}
