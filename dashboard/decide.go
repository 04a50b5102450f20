package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// A decision is what can be done about deliveries.
type decision struct {
	Name    string // "retry", "skip" or "discard"
	Verb    string // on buttons
	Promise string // what it does
	do      func(reason string) admin.Decision
}

var decisions = map[string]decision{
	"retry": {
		"retry", "Retry", "They are tried again at once, with all their attempts, in the order of their keys.",
		func(string) admin.Decision { return admin.RetryDeliveries },
	},
	"skip": {
		"skip", "Skip", "They are set aside and kept with your reason. Their keys go on.",
		func(reason string) admin.Decision {
			return func(ctx context.Context, db outbox.DB, f admin.DeliveryFilter) (int64, error) {
				return admin.SkipDeliveries(ctx, db, f, reason)
			}
		},
	},
	"discard": {
		"discard", "Discard", "They are deleted with their payloads and errors. This cannot be undone.",
		func(string) admin.Decision { return admin.DiscardDeliveries },
	},
}

// readDecision reads what is to be done about which deliveries. Everything that matches is meant only where "-all" says so: not
// when somebody forgot to select.
func readDecision(q url.Values) (d decision, f deliveryForm, err error) {
	name, all := strings.CutSuffix(q.Get("do"), "-all")
	d, ok := decisions[name]
	if !ok {
		return d, f, badRequest(fmt.Sprintf("%q is no decision: there are retry, skip and discard", name))
	}
	if f, err = readDeliveryForm(q); err != nil {
		return d, f, err
	}
	switch {
	case !f.Decidable():
		err = badRequest("what is running cannot be decided about: it is delivered, or fails")
	case d.Name == "retry" && !f.Retryable():
		err = badRequest("what is blocked waits for the first event of its key: decide about that one")
	case all:
		f.IDs = nil
	case len(f.IDs) == 0:
		err = badRequest("nothing is selected: go back and tick what is meant, or choose everything that matches")
	}
	return d, f, err
}

// confirmPage says what a decision would do.
type confirmPage struct {
	deliveryForm
	Decision decision
	Count    int64 // up to countedUpTo + 1
	Examples []admin.Delivery
	Back     string
}

// examples is how many of the deliveries a decision is about are shown.
const examples = 5

func (h *Handler) confirm(ctx context.Context, r *http.Request) (*view, error) {
	decision, form, err := readDecision(r.URL.Query())
	if err != nil {
		return nil, err
	}
	filter, err := form.filter()
	if err != nil {
		return nil, err
	}
	p := &confirmPage{deliveryForm: form, Decision: decision, Back: back(form)}
	// "2h ago" means now, and not when somebody has made up his mind.
	p.Since, p.Until = admin.FormatTime(filter.Since), admin.FormatTime(filter.Until)
	if p.Count, err = admin.CountDeliveriesUpTo(ctx, h.db, filter, countedUpTo+1); err != nil {
		return nil, err
	}
	for o := (admin.ListOptions{Limit: examples}); p.Count > 0; { // the first match may be far
		page, err := admin.ListDeliveries(ctx, h.db, filter, o)
		if err != nil {
			return nil, err
		}
		p.Examples = append(p.Examples, page.Items...)
		if o.After, o.Limit = page.Next, examples-len(p.Examples); o.After == "" || o.Limit == 0 {
			break
		}
	}
	return &view{Title: decision.Verb, Nav: "deadletters", Template: "confirm", Data: p}, nil
}

func (h *Handler) decide(ctx context.Context, r *http.Request) (string, error) {
	decision, form, err := readDecision(r.PostForm)
	if err != nil {
		return "", err
	}
	filter, err := form.filter()
	if err != nil {
		return "", err
	}
	reason := strings.TrimSpace(r.PostFormValue("reason"))
	if decision.Name == "skip" && reason == "" {
		return "", badRequest("skipped events are kept with a reason: go back and give one")
	}
	n, err := admin.DecideInChunks(ctx, h.db, filter, decision.do(reason))
	if err != nil && n > 0 {
		h.audit(r, decision.Name, "filter", form.query().Encode(), "reason", reason, "count", n, "error", err)
		return "", &fault{http.StatusServiceUnavailable, "Only a part was done", fmt.Sprintf(
			"%s %s came before the time was up or the database failed. Do it again for the others.", num(n), plural(n, "event", ""))}
	}
	if err != nil {
		return "", err
	}
	h.audit(r, decision.Name, "filter", form.query().Encode(), "reason", reason, "count", n)
	form.IDs = nil
	next := back(form)
	return next + "&" + url.Values{"done": {decision.Name}, "n": {strconv.FormatInt(n, 10)}}.Encode(), nil
}

// back is the list from which a decision was asked for.
func back(f deliveryForm) string {
	f.IDs = nil
	return withQuery("deadletters", f.query())
}

// notice says once what was done. It is made from a few known words: a link from elsewhere cannot have it say anything
// else.
func notice(q url.Values) string {
	n, err := strconv.ParseInt(q.Get("n"), 10, 64)
	counted := err == nil && n >= 0
	events := num(n) + " " + plural(n, "event", "events")
	switch done := q.Get("done"); {
	case done == "pause":
		return "Paused. Its workers finish what they are handling, and let go of it within about a second."
	case done == "resume":
		return "Resumed. Its workers go on where they were."
	case done == "topics":
		return "Its topics change as soon as its workers have released its lanes, within about a second."
	case done == "probe":
		return "Its workers try at once whether attempts succeed again."
	case !counted:
		return ""
	case done == "replay" && n == 0:
		return "Nothing was replayed: no event matches that it has settled."
	case done == "replay":
		return events + " " + plural(n, "is", "are") + " replayed."
	case decisions[done].Name != "" && n == 0:
		return "There was nothing left to decide: someone else did, or it was delivered."
	case done == "retry":
		return events + " will be tried again now."
	case done == "skip":
		return events + " " + plural(n, "was", "were") + " skipped."
	case done == "discard":
		return events + " " + plural(n, "was", "were") + " discarded."
	}
	return ""
}
