package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// labels are what the demo calls its subscriptions.
var labels = []string{"log", "audit"}

// topics are what both subscribe to.
var topics = []string{"signals.>"}

// A member is one worker of one subscription.
type member struct {
	label  string // such as log-1
	worker *worker.Worker
}

// names returns what the subscriptions are called in the database. In somebody's, log may exist, and its workers would take
// part of the events; so may those of another demo.
func (d *demo) names() []string {
	if d.cfg.OwnURL != "" {
		return labels
	}
	var names []string
	run := strings.ToLower(rand.Text()[:6])
	for _, label := range labels {
		names = append(names, "demo-"+run+"-"+label)
	}
	return names
}

// subscribe creates the subscriptions. They see what is published from now on: old events are not the demo's.
func (d *demo) subscribe(ctx context.Context, names []string) error {
	mark, err := admin.GetMark(ctx, d.db)
	if err != nil {
		return fmt.Errorf("look at the log: %w", err)
	}
	d.before = mark.Last
	for _, name := range names {
		if _, err := engine.Subscribe(ctx, d.db, name, topics, outbox.FromNow); err != nil {
			return err
		}
	}
	return nil
}

// nameOf matches what demos call their subscriptions in somebody's database.
var nameOf = regexp.MustCompile(`^demo-[a-z2-7]{6}-(log|audit)$`)

// unsubscribe removes the subscriptions from somebody's database: nobody would ever read them, and the log would be kept
// for them. It removes those of demos that were killed, too: their workers are gone, and for a minute none has come.
func (d *demo) unsubscribe(names []string) error {
	if d.cfg.OwnURL != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.cfg.Patience)
	defer cancel()
	list, err := admin.ListSubscriptions(ctx, d.db)
	for _, s := range list {
		mine := slices.Contains(names, s.Name)
		if !mine && (!nameOf.MatchString(s.Name) || len(s.Workers) > 0 || time.Since(s.CreatedAt) < time.Minute) {
			continue
		}
		var served *admin.ServedError
		deleted := admin.DeleteSubscription(ctx, d.db, s.Name, mine)
		if errors.Is(deleted, outbox.ErrUnknownSubscription) || errors.As(deleted, &served) {
			continue // another demo was quicker
		}
		err = errors.Join(err, deleted)
	}
	if err != nil {
		return fmt.Errorf("remove the demo's subscriptions %s: %w", strings.Join(names, " and "), err)
	}
	return nil
}

// newWorkers returns the workers of all subscriptions. Each has connections, lanes and a life of its own, as a process would; that
// they share this one lets the ledger measure with one clock.
func (d *demo) newWorkers(names []string) ([]member, error) {
	var workers []member
	for i, name := range names {
		for n := range d.cfg.Workers {
			label := fmt.Sprintf("%s-%d", labels[i], n+1)
			// The name is what "outbox status" shows. The story has the label, which is short.
			w, err := worker.New(d.cfg.Pool, worker.Config{
				Outbox: d.cfg.Outbox,
				Name:   fmt.Sprintf("%s-%d", name, n+1), Logger: d.cfg.Logger, ShutdownTimeout: d.cfg.Patience,
			})
			if err != nil {
				return nil, err
			}
			s := worker.Subscription{Name: name, Topics: topics, Start: outbox.FromNow}
			// Undecoded: whoever has the database may publish anything under these topics, and no event should fail here.
			if err := worker.Handle(w, s, func(_ context.Context, e *worker.Event[json.RawMessage]) error {
				if p := d.ledger.handled(i, label, e.Event); p != nil {
					d.flow.show(p)
				}
				return nil
			}); err != nil {
				return nil, err
			}
			workers = append(workers, member{label, w})
		}
	}
	return workers, nil
}

// shareOut is how long the workers may take to share the lanes out among themselves before the traffic begins. There may
// be more workers than shares.
const shareOut = 2 * time.Second

// awaitWorkers returns when every worker serves, with a share of its subscription.
func (d *demo) awaitWorkers(ctx, failed context.Context, names []string) error {
	// The first worker takes all lanes, and hands over what is above its share when it hears of the others.
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	for giveUp := time.Now().Add(shareOut); !d.serving() || time.Now().Before(giveUp); {
		select {
		case <-looks.C:
		case <-failed.Done():
			return context.Cause(failed)
		case <-ctx.Done():
			return ctx.Err()
		}
		var owners int
		err := d.db.QueryRow(ctx, `
			select count(distinct l.owner)
			from outbox.lanes l join outbox.subscriptions s on s.id = l.subscription_id
			where s.name = any($1)`, names).Scan(&owners)
		if err != nil {
			return fmt.Errorf("look at the workers: %w", err)
		}
		if owners == len(d.workers) && d.serving() {
			return nil
		}
	}
	return nil
}

func (d *demo) serving() bool {
	return !slices.ContainsFunc(d.workers, func(m member) bool { return m.worker.Ready() != nil })
}
