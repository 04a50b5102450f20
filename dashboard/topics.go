package dashboard

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/signalbox-go/signalbox/outbox/admin"
)

// topicsForm is which topics a subscription is to have.
type topicsForm struct {
	Name   string
	Topics string // with spaces between them
	From   string // where a back-fill begins; "" for none
}

func readTopics(r *http.Request) topicsForm {
	return topicsForm{Name: r.FormValue("name"), Topics: strings.TrimSpace(r.FormValue("topics")), From: strings.TrimSpace(r.FormValue("from"))}
}

func (f topicsForm) list() []string { return strings.Fields(f.Topics) }

func (f topicsForm) options() (admin.TopicsOptions, error) {
	if f.From == "" {
		return admin.TopicsOptions{}, nil
	}
	position, err := readPosition("from", f.From)
	return admin.TopicsOptions{BackfillFrom: position}, err
}

// topicsPage says what a change of topics would do.
type topicsPage struct {
	topicsForm
	Added, Removed []string
	Count          admin.Estimate
}

func (h *Handler) confirmTopics(ctx context.Context, r *http.Request) (*view, error) {
	p := &topicsPage{topicsForm: readTopics(r)}
	row, err := admin.GetSubscription(ctx, h.db, p.Name)
	if err != nil {
		return nil, err
	}
	if len(p.list()) == 0 {
		return nil, badRequest("topics: name all topics that it is to have, with spaces between them")
	}
	without := func(list, others []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(t string) bool { return slices.Contains(others, t) })
	}
	p.Added, p.Removed = without(p.list(), row.Topics), without(row.Topics, p.list())
	o, err := p.options()
	if err != nil {
		return nil, err
	}
	// Also without a back-fill: this checks the topics.
	if p.Count, err = admin.CountBackfill(ctx, h.db, p.Name, p.list(), o.BackfillFrom); err != nil {
		return nil, err
	}
	if at := o.BackfillFrom; !at.At.IsZero() {
		p.From = admin.FormatPosition(at) // "2h ago" means now, and not when it is confirmed
	}
	return &view{Title: "Topics of " + p.Name, Nav: "overview", Template: "topics", Data: p}, nil
}

func (h *Handler) setTopics(ctx context.Context, r *http.Request) (string, error) {
	f := readTopics(r)
	o, err := f.options()
	if err != nil {
		return "", err
	}
	// It does not wait for workers that take their time: the sentinel does the rest.
	soon, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	change, err := admin.SetTopics(soon, h.db, f.Name, f.list(), o)
	if errors.Is(err, context.DeadlineExceeded) {
		if row, unknown := admin.GetSubscription(ctx, h.db, f.Name); unknown == nil && row.TopicsTo != nil {
			err = nil
		}
	}
	if err != nil {
		return "", err
	}
	h.audit(r, "topics", "subscription", f.Name, "before", change.Before, "topics", change.Topics, "from", f.From, "count", change.Backfilled)
	return link("subscription", "name", f.Name, "done", "topics"), nil
}
