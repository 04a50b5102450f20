package dashboard

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// overview is how everything is doing.
type overview struct {
	In, Out       spark
	Oldest        *admin.OldestEvent // the oldest unfinished event of a subscription that is not paused
	OldestOf      string             // that subscription
	Dead          int64
	Retrying      int64
	Blocked       int64
	Live          int // workers
	Doorbell      admin.Doorbell
	Log           admin.LogStatus
	Workers       []admin.WorkerStatus
	Subscriptions []subscriptionLine
	Concerns      []concern
	Silent        bool // nothing was ever published
}

// A subscriptionLine is a subscription in a list.
type subscriptionLine struct {
	admin.Subscription
	Lag        admin.Lag
	Oldest     *admin.OldestEvent
	Failing    bool
	Deliveries map[outbox.State]int64 // by state, up to countedUpTo + 1
	Out        spark

	HeldKeys        int64
	BreakerOpenedAt *time.Time // nil while it is closed
	BreakerTopics   []string   // that it is open for; none for the whole subscription
	FullLanes       int64

	InFlight    int64
	LastFailure *admin.LastFailure
}

// Condition says in a word what is up with the subscription.
func (l subscriptionLine) Condition() string {
	switch {
	case l.RewindTo != nil:
		return "replaying"
	case l.PausedAt != nil:
		return "paused"
	case len(l.Workers) == 0:
		return "unserved"
	case l.Owned < engine.Lanes:
		return "starting"
	case l.BreakerOpenedAt != nil:
		return "breaker open"
	case l.Failing:
		return "failing"
	case l.Deliveries[admin.Blocked] > 0:
		return "blocked"
	}
	return "serving"
}

func (h *Handler) overview(ctx context.Context, _ *http.Request) (*view, error) {
	status, marks, lines, err := h.look(ctx)
	if err != nil {
		return nil, err
	}
	o := &overview{
		In: draw(marks, published), Out: draw(marks, handled), Doorbell: status.Doorbell, Log: status.Log, Workers: status.Workers,
		Subscriptions: lines, Concerns: concerns(h.config.Outbox, status), Silent: marks[len(marks)-1].Last == 0,
	}
	for _, s := range lines {
		o.Dead += s.Deliveries[outbox.Dead]
		o.Retrying += s.Deliveries[outbox.Retrying]
		o.Blocked += s.Deliveries[admin.Blocked]
		if s.Oldest != nil && s.PausedAt == nil && (o.Oldest == nil || s.Oldest.PublishedAt.Before(o.Oldest.PublishedAt)) {
			o.Oldest, o.OldestOf = s.Oldest, s.Name
		}
	}
	for _, w := range status.Workers {
		if w.Live {
			o.Live++
		}
	}
	return &view{Title: "Overview", Nav: "overview", Template: "overview", Data: o, Live: true}, nil
}

// look reads what the overview and the pages about subscriptions show.
func (h *Handler) look(ctx context.Context) (*admin.Status, []admin.Mark, []subscriptionLine, error) {
	status, err := h.status.get(ctx, h.db, h.every)
	if err != nil {
		return nil, nil, nil, err
	}
	marks, err := h.rates.marked(ctx, h.db, h.every)
	if err != nil {
		return nil, nil, nil, err
	}
	rows, err := admin.ListSubscriptions(ctx, h.db)
	if err != nil {
		return nil, nil, nil, err
	}
	var lines []subscriptionLine
	for _, row := range rows {
		line := subscriptionLine{Subscription: row, Out: draw(marks, handledBy(row.Name))}
		if i := slices.IndexFunc(status.Subscriptions, func(s admin.SubscriptionStatus) bool { return s.Name == row.Name }); i >= 0 {
			s := status.Subscriptions[i]
			line.Lag, line.Oldest, line.Deliveries = s.Lag, s.Oldest, s.Deliveries
			line.HeldKeys, line.BreakerOpenedAt, line.BreakerTopics = s.HeldKeys, s.BreakerOpenedAt, s.BreakerTopics
			line.FullLanes, line.InFlight, line.LastFailure = s.FullLanes, s.InFlight, s.LastFailure
			line.Failing = slices.ContainsFunc(status.Concerns, func(c admin.Concern) bool {
				return c.Kind == admin.ConcernFailing && c.Subscription == row.Name
			})
		}
		lines = append(lines, line)
	}
	return status, marks, lines, nil
}
