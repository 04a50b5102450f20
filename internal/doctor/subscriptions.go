package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// checkSubscriptions looks for those that do not get on: they keep the log from being deleted. That no worker runs is
// no finding; that a subscription has waited for one for too long is.
func checkSubscriptions(ctx context.Context, p *patient) ([]Finding, error) {
	status, err := admin.GetStatus(ctx, p.conn)
	if errors.Is(err, outbox.ErrRowSecurity) {
		return nil, nil // a finding of checkCluster
	}
	if err != nil {
		return nil, err
	}
	list, err := admin.ListSubscriptions(ctx, p.conn)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, s := range status.Subscriptions {
		i := slices.IndexFunc(list, func(row admin.Subscription) bool { return row.Name == s.Name })
		if i < 0 || s.Oldest == nil {
			continue
		}
		old := status.At.Sub(s.Oldest.PublishedAt)
		if old < p.cfg.Forgotten {
			continue
		}
		behind := fmt.Sprintf("has events to handle that are %s old", rounded(old.Seconds()))
		holds := ""
		if slices.Contains(status.Log.HeldBy, s.Name) {
			holds = " It keeps the log from being deleted."
		}
		switch row := list[i]; {
		case row.PausedAt != nil:
			found = append(found, Finding{
				fmt.Sprintf("Subscription %q is paused since %s, and %s.%s", s.Name, row.PausedAt.UTC().Format("2006-01-02 15:04 UTC"), behind, holds),
				fmt.Sprintf("Run: outbox subscriptions resume %s; or delete it, if it is not needed.", plain.Shell(s.Name)),
			})
		case len(row.Workers) == 0:
			found = append(found, Finding{
				fmt.Sprintf("Subscription %q is forgotten: no worker serves it, and it %s.%s", s.Name, behind, holds),
				fmt.Sprintf("Start a worker for it, or run: outbox subscriptions delete %s", plain.Shell(s.Name)),
			})
		default:
			found = append(found, Finding{
				fmt.Sprintf("Subscription %q %s, though %s serve it.%s", s.Name, behind, strings.Join(row.Workers, ", "), holds),
				fmt.Sprintf("Look at their logs, and for what fails: outbox deliveries list -s %s --state retrying. If they are just slow, start more of them.", plain.Shell(s.Name)),
			})
		}
	}
	return found, nil
}
