package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// pageRows is how many rows a list has.
const pageRows = 50

// eventsPage is a part of the log.
type eventsPage struct {
	Topic, Key, Since, Until, Contains string // the filter, as it was typed
	Events                             []outbox.Event
	Older                              string // where the list goes on; "" at its end
	Newest                             string // where it begins; "" if that is here
	Short                              bool   // the search stopped before the page was full
}

// Filtered is true when not everything is wanted.
func (p *eventsPage) Filtered() bool {
	return p.Topic+p.Key+p.Since+p.Until+p.Contains != ""
}

func (h *Handler) events(ctx context.Context, r *http.Request) (*view, error) {
	q := r.URL.Query()
	if id := strings.TrimSpace(q.Get("id")); id != "" {
		return nil, elsewhere(link("event", "id", id))
	}
	p := &eventsPage{
		Topic: strings.TrimSpace(q.Get("topic")), Key: q.Get("key"), Since: q.Get("since"), Until: q.Get("until"), Contains: strings.TrimSpace(q.Get("contains")),
	}
	filter, err := p.filter()
	if err != nil {
		return nil, err
	}
	after := admin.Cursor(q.Get("after"))
	page, err := admin.ListNewestEvents(ctx, h.db, filter, admin.ListOptions{After: after, Limit: pageRows})
	if err != nil {
		return nil, err
	}
	p.Events = page.Items
	if after != "" {
		p.Newest = withQuery("events", without(q, "after"))
	}
	if page.Next != "" {
		p.Older = withQuery("events", with(q, "after", string(page.Next)))
		p.Short = len(page.Items) < pageRows
	}
	return &view{Title: "Events", Nav: "events", Template: "events", Data: p, Live: after == ""}, nil
}

func (p *eventsPage) filter() (f admin.EventFilter, err error) {
	f = admin.EventFilter{Topic: p.Topic, Key: p.Key}
	if f.Since, err = readTime("since", p.Since); err != nil {
		return f, err
	}
	if f.Until, err = readTime("until", p.Until); err != nil {
		return f, err
	}
	if p.Contains != "" {
		if !json.Valid([]byte(p.Contains)) {
			return f, badRequest(fmt.Sprintf(`what the payload contains is JSON, such as {"total": 4200}, and %q is not`, p.Contains))
		}
		f.Payload = json.RawMessage(p.Contains)
	}
	return f, nil
}

func parseID(field, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	id, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || id < 0 {
		return 0, badRequest(fmt.Sprintf("%s %q is no event's id, which is a number", field, text))
	}
	return id, nil
}

// with returns a copy of a query with another value for a parameter, without what is said only once.
func with(q url.Values, name, value string) url.Values {
	c := without(q, name)
	c.Set(name, value)
	return c
}

// without returns a copy of a query without some parameters, those that are empty, and what is said only once.
func without(q url.Values, names ...string) url.Values {
	c := url.Values{}
	for name, values := range q {
		for _, value := range values {
			if value != "" {
				c.Add(name, value)
			}
		}
	}
	for _, name := range append(names, "done", "n") {
		c.Del(name)
	}
	return c
}
