package dashboard

import (
	"context"
	"net/http"
	"slices"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// overview is how everything is doing.
type overview struct {
	In, Out       spark
	Oldest        float64 // age in seconds of the oldest event that a subscription has yet to read
	OldestOf      string  // that subscription
	Dead          int64
	Retrying      int64
	Doorbell      string
	Log           admin.LogStatus
	Workers       []admin.WorkerStatus
	Subscriptions []subscriptionLine
	Concerns      []concern
	Silent        bool // nothing was ever published
}

// A subscriptionLine is a subscription in a list.
type subscriptionLine struct {
	admin.SubscriptionRow
	Lag        admin.Lag
	Deliveries map[string]int64 // by state, as of an admin.Glance
	Blocked    int64            // of those that are retrying, how many wait behind an earlier one of their key
	Out        spark
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
	}
	return "serving"
}

func (h *Handler) overview(ctx context.Context, _ *http.Request) (*view, error) {
	status, marks, lines, err := h.look(ctx)
	if err != nil {
		return nil, err
	}
	o := &overview{
		In: draw(marks, published), Out: draw(marks, settled), Doorbell: status.Doorbell, Log: status.Log, Workers: status.Workers,
		Subscriptions: lines, Concerns: concerns(status), Silent: marks[len(marks)-1].Last == 0,
	}
	for _, s := range lines {
		o.Dead += s.Deliveries[string(outbox.Dead)]
		o.Retrying += s.Deliveries[string(outbox.Retrying)]
		if s.Lag.Seconds > o.Oldest {
			o.Oldest, o.OldestOf = s.Lag.Seconds, s.Name
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
	rows, err := admin.Subscriptions(ctx, h.db)
	if err != nil {
		return nil, nil, nil, err
	}
	var lines []subscriptionLine
	for _, row := range rows {
		line := subscriptionLine{SubscriptionRow: row, Out: draw(marks, settledBy(row.Name))}
		if i := slices.IndexFunc(status.Subscriptions, func(s admin.SubscriptionStatus) bool { return s.Name == row.Name }); i >= 0 {
			s := status.Subscriptions[i]
			line.Lag, line.Deliveries, line.Blocked = s.Lag, s.Deliveries, s.Blocked
		}
		lines = append(lines, line)
	}
	return status, marks, lines, nil
}
