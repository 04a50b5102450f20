package dashboard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// blockedKeys is how many keys a page lists.
const blockedKeys = 20

// subscriptionPage is one subscription.
type subscriptionPage struct {
	subscriptionLine
	Lanes   []laneCell
	Owners  []ownerOfLanes
	Late    bool // some lanes are
	Far     bool
	Waiting []admin.BlockedKey // the keys with the longest lines
}

// ReplaysFrom is the event that a replay, for which RewindTo waits, begins with.
func (p *subscriptionPage) ReplaysFrom() int64 { return *p.RewindTo + 1 }

// A laneCell is a lane in the picture of all of them.
type laneCell struct {
	admin.Lane
	Shade int // tells owners apart, from 1; 0 for nobody
}

// Late is true for a lane that is behind.
func (l laneCell) Late() bool { return l.Behind > 100 && !l.Far() }

// Far is true for one that is far behind.
func (l laneCell) Far() bool { return l.Behind > 10_000 }

// ownerOfLanes is a worker with how many lanes it owns.
type ownerOfLanes struct {
	ID    int64
	Name  string
	Lanes int
	Shade int
}

// shades is how many the style sheet has.
const shades = 6

func (h *Handler) subscription(ctx context.Context, r *http.Request) (*view, error) {
	name := r.FormValue("name")
	_, _, lines, err := h.look(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(lines, func(l subscriptionLine) bool { return l.Name == name })
	if i < 0 {
		return nil, outbox.ErrUnknownSubscription
	}
	p := &subscriptionPage{subscriptionLine: lines[i]}
	lanes, err := admin.ListLanes(ctx, h.db, name)
	if err != nil {
		return nil, err
	}
	for _, lane := range lanes {
		cell := laneCell{Lane: lane}
		if lane.OwnerID != 0 {
			n := slices.IndexFunc(p.Owners, func(o ownerOfLanes) bool { return o.ID == lane.OwnerID })
			if n < 0 {
				n = len(p.Owners)
				p.Owners = append(p.Owners, ownerOfLanes{ID: lane.OwnerID, Name: lane.Owner, Shade: n%shades + 1})
			}
			p.Owners[n].Lanes++
			cell.Shade = p.Owners[n].Shade
		}
		p.Late, p.Far = p.Late || cell.Late(), p.Far || cell.Far()
		p.Lanes = append(p.Lanes, cell)
	}
	if p.Waiting, err = admin.ListBlockedKeys(ctx, h.db, name, blockedKeys); err != nil {
		return nil, err
	}
	return &view{Title: name, Nav: "overview", Template: "subscription", Data: p, Live: true}, nil
}

func (h *Handler) pause(ctx context.Context, r *http.Request) (string, error) {
	return h.administer(ctx, r, "pause", admin.Pause)
}

func (h *Handler) resume(ctx context.Context, r *http.Request) (string, error) {
	return h.administer(ctx, r, "resume", admin.Resume)
}

func (h *Handler) administer(ctx context.Context, r *http.Request, what string, do func(context.Context, outbox.DB, string) error) (string, error) {
	name := r.PostFormValue("name")
	if err := do(ctx, h.db, name); err != nil {
		return "", err
	}
	h.audit(r, what, "subscription", name)
	return link("subscription", "name", name, "done", what), nil
}

// replayForm is what to replay to a subscription.
type replayForm struct {
	Name       string
	From       string
	Until      string
	Topic, Key string
}

func readReplay(r *http.Request) replayForm {
	return replayForm{
		Name: r.FormValue("name"), From: strings.TrimSpace(r.FormValue("from")), Until: strings.TrimSpace(r.FormValue("until")),
		Topic: r.FormValue("topic"), Key: r.FormValue("key"),
	}
}

// fix has times that are relative mean the same when the replay is confirmed.
func (f *replayForm) fix() error {
	for name, text := range map[string]*string{"from": &f.From, "until": &f.Until} {
		p, err := readPosition(name, *text)
		if err != nil {
			return err
		}
		if !p.At.IsZero() {
			*text = admin.FormatPosition(p)
		}
	}
	return nil
}

// Filtered is true when only some events are wanted. Else the subscription's cursors go back.
func (f replayForm) Filtered() bool { return f.Topic != "" || f.Key != "" || f.Until != "" }

// filter is which events are replayed.
func (f replayForm) filter() (admin.EventFilter, error) {
	from, err := readPosition("from", f.From)
	if err != nil {
		return admin.EventFilter{}, err
	}
	until, err := readPosition("until", f.Until)
	switch {
	case err != nil:
		return admin.EventFilter{}, err
	case from == outbox.FromNow:
		return admin.EventFilter{}, badRequest("from: nothing is published after now that could be replayed")
	case f.Until != "" && until == outbox.FromBeginning:
		return admin.EventFilter{}, badRequest("until: nothing was published before the beginning")
	}
	// Until now is what a replay does anyway.
	return admin.EventFilter{Topic: f.Topic, Key: f.Key, Since: from.At, MinID: from.ID, Until: until.At, MaxID: until.ID}, nil
}

// replayPage says what a replay would do.
type replayPage struct {
	replayForm
	Count admin.Estimate
}

func (h *Handler) confirmReplay(ctx context.Context, r *http.Request) (*view, error) {
	p := &replayPage{replayForm: readReplay(r)}
	err := p.fix()
	if err != nil {
		return nil, err
	}
	if p.Filtered() {
		var filter admin.EventFilter
		if filter, err = p.filter(); err == nil {
			p.Count, err = admin.CountReplay(ctx, h.db, p.Name, filter)
		}
	} else {
		var position outbox.Position
		if position, err = readPosition("from", p.From); err == nil {
			p.Count, err = admin.CountRewind(ctx, h.db, p.Name, position)
		}
	}
	if err != nil {
		return nil, err
	}
	return &view{Title: "Replay " + p.Name, Nav: "overview", Template: "replay", Data: p}, nil
}

func (h *Handler) replay(ctx context.Context, r *http.Request) (string, error) {
	f := readReplay(r)
	if !f.Filtered() {
		position, err := readPosition("from", f.From)
		if err != nil {
			return "", err
		}
		n, err := h.rewind(ctx, f.Name, position)
		if err != nil {
			return "", err
		}
		h.audit(r, "replay", "subscription", f.Name, "from", f.From, "count", n.Events, "estimated", n.Estimated)
		return replayed(f.Name, n.Events), nil
	}
	filter, err := f.filter()
	if err != nil {
		return "", err
	}
	done, err := admin.Replay(ctx, h.db, f.Name, filter, admin.ReplayOptions{})
	if err != nil && done.Events > 0 {
		h.audit(r, "replay", "subscription", f.Name, "filter", f, "count", done.Events, "error", err)
		return "", &fault{http.StatusServiceUnavailable, "Only a part was replayed", fmt.Sprintf(
			"%s %s came before the time was up or the database failed. Replay again from %d until %s, with the same topic and key.",
			num(done.Events), plural(done.Events, "event", ""), done.Last+1, cmp.Or(f.Until, strconv.FormatInt(done.UpTo, 10)))}
	}
	if err != nil {
		return "", err
	}
	h.audit(r, "replay", "subscription", f.Name, "filter", f, "count", done.Events)
	return replayed(f.Name, done.Events), nil
}

// replayed is where a replay leads to.
func replayed(name string, n int64) string {
	return withQuery("subscription", url.Values{"name": {name}, "done": {"replay"}, "n": {strconv.FormatInt(n, 10)}})
}

// rewind asks for a rewind, and does not wait for handlers that take their time: the sentinel does the rest.
func (h *Handler) rewind(ctx context.Context, name string, to outbox.Position) (admin.Estimate, error) {
	soon, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	n, err := admin.Rewind(soon, h.db, name, to)
	if !errors.Is(err, context.DeadlineExceeded) {
		return n, err
	}
	list, unknown := admin.ListSubscriptions(ctx, h.db)
	if unknown == nil && slices.ContainsFunc(list, func(s admin.Subscription) bool { return s.Name == name && s.RewindTo != nil }) {
		err = nil
	}
	return n, err
}
