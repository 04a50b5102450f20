package dashboard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// eventPage is an event with what became of it.
type eventPage struct {
	*admin.EventDetails
	Payload []token
	Cut     bool // the payload is longer than what is shown
	Bytes   int
	Headers []header
	Fates   []fateLine
}

type header struct{ Name, Value string }

// A fateLine is what became of the event in a subscription, with its history.
type fateLine struct {
	admin.EventFate
	Steps []step
	Link  string // to decide about it; "" where there is nothing to decide
}

// A step is an entry of a timeline.
type step struct {
	Kind   string // "published", "failed", "waits", "runs", "dead", "skipped", or "done"
	At     time.Time
	Text   string
	Error  string // all of it
	Worker string
}

func (h *Handler) event(ctx context.Context, r *http.Request) (*view, error) {
	row, err := h.find(ctx, r.FormValue("id"))
	if err != nil {
		return nil, err
	}
	id := row.Event.ID
	p := &eventPage{EventDetails: row, Bytes: len(row.Event.Payload)}
	p.Payload, p.Cut = highlight(row.Event.Payload)
	for _, name := range slices.Sorted(maps.Keys(row.Event.Headers)) {
		p.Headers = append(p.Headers, header{name, row.Event.Headers[name]})
	}
	// What needs attention comes first.
	slices.SortStableFunc(row.Fates, func(a, b admin.EventFate) int {
		return cmp.Compare(attention(b), attention(a))
	})
	for _, f := range row.Fates {
		line := fateLine{EventFate: f, Steps: steps(row.Event.PublishedAt, f)}
		if d := f.Delivery; d != nil && d.State != outbox.Running {
			line.Link = link("confirm", "subscription", f.Subscription, "state", d.State, "id", id)
		}
		p.Fates = append(p.Fates, line)
	}
	return &view{Title: "Event " + num(id), Nav: "events", Template: "event", Data: p, Live: true}, nil
}

// find returns the event with an id or a UID, as it was typed.
func (h *Handler) find(ctx context.Context, text string) (*admin.EventDetails, error) {
	text = strings.TrimSpace(text)
	row, err := admin.GetEventByUID(ctx, h.db, text)
	if !errors.Is(err, admin.ErrInvalidFilter) {
		return row, err
	}
	id, err := parseID("event", text)
	if err != nil {
		return nil, badRequest(fmt.Sprintf("event %q is neither an event's id, which is a number, nor its UID", text))
	}
	return admin.GetEvent(ctx, h.db, id)
}

// attention is more for an event that a subscription did not simply handle.
func attention(f admin.EventFate) int {
	switch {
	case f.Fate == admin.FateDead:
		return 2
	case f.Delivery != nil:
		return 1
	}
	return 0
}

// steps is what happened to an event in a subscription, in order.
func steps(published time.Time, f admin.EventFate) []step {
	if f.Delivery == nil {
		return nil
	}
	d := f.Delivery
	list := []step{{Kind: "published", At: published, Text: "Published"}}
	for i, failure := range d.Failures {
		s := step{Kind: "failed", At: failure.At, Worker: failure.Worker, Error: failure.Error, Text: "Attempt " + num(failure.Attempt) + " failed"}
		if i == len(d.Failures)-1 && d.State == outbox.Skipped {
			s.Kind, s.Text = "skipped", "Skipped"
		}
		list = append(list, s)
	}
	switch f.Fate {
	case admin.FateDead:
		list = append(list, step{Kind: "dead", Text: "Given up: it waits for a decision"})
		if d.StopsKey {
			list[len(list)-1].Text += ", and its key with it"
		}
	case admin.FateBlocked:
		list = append(list, step{Kind: "waits", Text: "Waits for an earlier event of its key"})
	case admin.FateRetrying:
		list = append(list, step{Kind: "waits", At: d.DueAt, Text: "Attempt " + num(d.Attempt+1) + " is due"})
	case admin.FateRunning:
		list = append(list, step{Kind: "runs", Text: "Attempt " + num(d.Attempt) + " is running"})
	}
	return list
}

// payload answers with an event's payload alone, as a file.
func (h *Handler) payload(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	row, err := h.find(ctx, r.FormValue("id"))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="event-`+strconv.FormatInt(row.Event.ID, 10)+`.json"`)
	_, _ = w.Write(row.Event.Payload)
}
