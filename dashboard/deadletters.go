package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// states are those of deliveries, in the order in which they are offered.
var states = []outbox.State{outbox.Dead, outbox.Retrying, admin.Blocked, outbox.Running, outbox.Skipped}

const (
	groupRows = 12     // how many different errors are listed
	lookAt    = 20_000 // how many deliveries are looked at to count what matches, and group it
)

// A deliveryForm is a filter of deliveries, as it is in a query.
type deliveryForm struct {
	Subscription string
	State        outbox.State
	Topic, Key   string
	Error        string
	Since, Until string
	IDs          []int64
}

func readDeliveryForm(q url.Values) (deliveryForm, error) {
	f := deliveryForm{
		Subscription: q.Get("subscription"), State: outbox.State(q.Get("state")),
		Topic: strings.TrimSpace(q.Get("topic")), Key: q.Get("key"), Error: q.Get("error"), Since: q.Get("since"), Until: q.Get("until"),
	}
	if f.State == "" {
		f.State = outbox.Dead
	}
	if !slices.Contains(states, f.State) {
		return f, badRequest(fmt.Sprintf("there is no state %q: deliveries are dead, retrying, blocked, running or skipped", f.State))
	}
	for _, text := range q["id"] {
		id, err := parseID("event", text)
		if err != nil {
			return f, err
		}
		f.IDs = append(f.IDs, id)
	}
	return f, nil
}

// Narrowed is true when not everything of a state is wanted.
func (f deliveryForm) Narrowed() bool { return f.Topic+f.Key+f.Error+f.Since+f.Until != "" }

// Decidable is true for what can be decided about: not for what is running.
func (f deliveryForm) Decidable() bool { return f.State != outbox.Running }

// Retryable is true for what can be tried now: not for what waits behind another event of its key.
func (f deliveryForm) Retryable() bool { return f.Decidable() && f.State != admin.Blocked }

// query is the form as it was read, to be sent again.
func (f deliveryForm) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"subscription": f.Subscription, "state": string(f.State), "topic": f.Topic, "key": f.Key, "error": f.Error, "since": f.Since, "until": f.Until,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for _, id := range f.IDs {
		q.Add("id", strconv.FormatInt(id, 10))
	}
	return q
}

// Fields is query as a list, for a form's hidden fields.
func (f deliveryForm) Fields() []header {
	var list []header
	for name, values := range f.query() {
		for _, value := range values {
			list = append(list, header{name, value})
		}
	}
	slices.SortFunc(list, func(a, b header) int { return strings.Compare(a.Name+"\x00"+a.Value, b.Name+"\x00"+b.Value) })
	return list
}

func (f deliveryForm) filter() (filter admin.DeliveryFilter, err error) {
	filter = admin.DeliveryFilter{
		Subscription: f.Subscription, States: []outbox.State{f.State}, IDs: f.IDs, Topic: f.Topic, Key: f.Key, Error: f.Error,
	}
	if filter.Since, err = readTime("since", f.Since); err != nil {
		return filter, err
	}
	filter.Until, err = readTime("until", f.Until)
	return filter, err
}

// deadLettersPage is what did not succeed, of one subscription.
type deadLettersPage struct {
	deliveryForm
	Tabs    []tab // subscriptions
	Pills   []tab // states
	Groups  []group
	Partial bool // Count and Groups are of the first 20,000 only
	Short   bool // the search stopped before the page was full
	Rows    []admin.Delivery
	Count   int64  // how many match
	Next    string // where the list goes on; "" at its end
	First   string // where it begins; "" if that is here
	Clear   string // without the filter
}

// A tab leads to another part of the deliveries.
type tab struct {
	Name  string
	Link  string
	Count int64
	Here  bool
}

// A group is a kind of error.
type group struct {
	admin.DeliveryGroup
	Link string
}

func (h *Handler) deadLetters(ctx context.Context, r *http.Request) (*view, error) {
	q := without(r.URL.Query(), "id", "do")
	form, err := readDeliveryForm(q)
	if err != nil {
		return nil, err
	}
	status, err := h.status.get(ctx, h.db, h.every)
	if err != nil {
		return nil, err
	}
	v := &view{Title: "Dead letters", Nav: "deadletters", Template: "deadletters", Live: true}
	p := &deadLettersPage{deliveryForm: form}
	v.Data = p
	if len(status.Subscriptions) == 0 {
		return v, nil
	}
	if p.Subscription == "" {
		p.Subscription = worst(status.Subscriptions)
	}
	v.Title = "Dead letters of " + p.Subscription
	known := false
	for _, s := range status.Subscriptions {
		here := s.Name == p.Subscription
		p.Tabs = append(p.Tabs, tab{s.Name, link("deadletters", "subscription", s.Name), s.Deliveries[outbox.Dead], here})
		if !here {
			continue
		}
		known = true
		for _, state := range states {
			p.Pills = append(p.Pills, tab{
				string(state), withQuery("deadletters", with(without(q, "after"), "state", string(state))), s.Deliveries[state], state == p.State,
			})
		}
	}
	if !known {
		return nil, outbox.ErrUnknownSubscription
	}
	return v, p.load(ctx, h.db, q)
}

// worst is the subscription with the most dead letters.
func worst(list []admin.SubscriptionStatus) string {
	most := list[0]
	for _, s := range list {
		if s.Deliveries[outbox.Dead] > most.Deliveries[outbox.Dead] {
			most = s
		}
	}
	return most.Name
}

// load fills in what matches.
func (p *deadLettersPage) load(ctx context.Context, db outbox.Database, q url.Values) error {
	filter, err := p.filter()
	if err != nil {
		return err
	}
	all, err := admin.GroupDeliveriesUpTo(ctx, db, filter, lookAt)
	if err != nil {
		return err
	}
	p.Count, p.Partial = all.Deliveries, all.Partial
	for _, g := range all.Groups[:min(len(all.Groups), groupRows)] {
		p.Groups = append(p.Groups, group{g, withQuery("deadletters", with(without(q, "after"), "error", g.Error))})
	}
	after := admin.Cursor(q.Get("after"))
	page, err := admin.ListDeliveries(ctx, db, filter, admin.ListOptions{After: after, Limit: pageRows})
	if err != nil {
		return err
	}
	p.Rows = page.Items
	if after != "" {
		p.First = withQuery("deadletters", without(q, "after"))
	}
	if page.Next != "" {
		p.Next = withQuery("deadletters", with(q, "after", string(page.Next)))
		p.Short = len(page.Items) < pageRows
	}
	if p.Narrowed() {
		p.Clear = link("deadletters", "subscription", p.Subscription, "state", p.State)
	}
	return nil
}
