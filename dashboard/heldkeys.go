package dashboard

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// keysPage lists the held keys of a subscription.
type keysPage struct {
	subscriptionLine
	Keys        []heldKey
	First, Next string // links, "" where there is nothing to go to
}

// A heldKey is a key with what can be done about it.
type heldKey struct{ admin.HeldKey }

// Decidable is true where a decision about the first event of its line lets the key go on.
func (k heldKey) Decidable() bool {
	return k.WaitsFor == admin.WaitsForAttempt || k.WaitsFor == admin.WaitsForWorker || k.WaitsFor == admin.WaitsForDecision
}

func (h *Handler) heldKeys(ctx context.Context, r *http.Request) (*view, error) {
	name, after := r.FormValue("name"), r.FormValue("after")
	_, _, lines, err := h.look(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(lines, func(l subscriptionLine) bool { return l.Name == name })
	if i < 0 {
		return nil, outbox.ErrUnknownSubscription
	}
	p := &keysPage{subscriptionLine: lines[i]}
	list, err := admin.ListHeldKeys(ctx, h.db, name, admin.ListOptions{After: admin.Cursor(after), Limit: pageRows})
	if err != nil {
		return nil, err
	}
	if after != "" {
		p.First = keysLink(name, "")
	}
	if list.Next != "" {
		p.Next = keysLink(name, string(list.Next))
	}
	for _, k := range list.Items {
		p.Keys = append(p.Keys, heldKey{k})
	}
	return &view{Title: "Held keys of " + name, Nav: "overview", Template: "keys", Data: p, Live: true}, nil
}

// keysLink leads to the held keys of a subscription that come after one. A key may be "0", which link would leave out.
func keysLink(name, after string) string {
	q := url.Values{"name": {name}}
	if after != "" {
		q.Set("after", after)
	}
	return withQuery("keys", q)
}

func (h *Handler) probe(ctx context.Context, r *http.Request) (string, error) {
	return h.administer(ctx, r, "probe", admin.Probe)
}
