package dashboard

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// history is how far back rates are shown.
const history = 2 * time.Minute

// rates keeps the marks of the last minutes. They are taken while somebody looks: a page takes one unless the last is
// young.
type rates struct {
	mu    sync.Mutex
	marks []admin.Mark
	taken time.Time // the last one, by the clock of this machine
}

// marked takes a mark if it is time, and returns those there are, the oldest first.
func (r *rates) marked(ctx context.Context, db outbox.DB, every time.Duration) ([]admin.Mark, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Several who watch share the marks of whoever looks first.
	if time.Since(r.taken) < every*3/4 {
		return r.marks, nil
	}
	mark, err := admin.GetMark(ctx, db)
	if err != nil {
		return nil, err
	}
	var kept []admin.Mark // a new slice: others read the old one
	for _, m := range r.marks {
		if mark.At.Sub(m.At) <= history && m.At.Before(mark.At) {
			kept = append(kept, m)
		}
	}
	kept = append(kept, mark)
	r.marks, r.taken = kept, time.Now()
	return r.marks, nil
}

// A spark is a rate over the last minutes, to be drawn.
type spark struct {
	Now  float64 // events a second
	Most float64
	Line string // points of an SVG polyline, in a box of sparkWidth by sparkHeight; "" before there are two marks
	Area string // points of the polygon below it
}

const sparkWidth, sparkHeight = 160.0, 32.0

// recent is over how much time the rate of now is taken: a single look might fall between two windows.
const recent = 6 * time.Second

// draw makes a spark of what grew from one mark to the next. What grew is false where that cannot be told.
func draw(marks []admin.Mark, grown func(before, after admin.Mark) (float64, bool)) spark {
	var s spark
	rate := func(before, after admin.Mark) (float64, bool) {
		events, ok := grown(before, after)
		return max(events, 0) / after.At.Sub(before.At).Seconds(), ok // less than nothing where a subscription was created anew
	}
	type point struct{ x, rate float64 }
	var points []point
	last := len(marks) - 1
	for i := 1; i < len(marks); i++ {
		if r, ok := rate(marks[i-1], marks[i]); ok {
			age := marks[last].At.Sub(marks[i].At)
			points = append(points, point{sparkWidth * (1 - float64(age)/float64(history)), r})
			s.Most = max(s.Most, r)
		}
	}
	if len(points) == 0 {
		return s
	}
	first := last - 1
	for first > 0 && marks[last].At.Sub(marks[first-1].At) <= recent {
		first--
	}
	s.Now, _ = rate(marks[first], marks[last])
	var line strings.Builder
	for _, p := range points {
		y := sparkHeight - 1
		if s.Most > 0 {
			y -= (sparkHeight - 3) * p.rate / s.Most
		}
		fmt.Fprintf(&line, "%.1f,%.1f ", p.x, y)
	}
	s.Line = strings.TrimSpace(line.String())
	s.Area = fmt.Sprintf("%.1f,%.0f %s%.1f,%.0f", points[0].x, sparkHeight, line.String(), points[len(points)-1].x, sparkHeight)
	return s
}

// published is what was published between two marks.
func published(before, after admin.Mark) (float64, bool) {
	return float64(after.Last - before.Last), true
}

// handledBy returns how many events a subscription handled with success between two marks.
func handledBy(subscription string) func(before, after admin.Mark) (float64, bool) {
	return func(before, after admin.Mark) (float64, bool) {
		from, known := before.Handled[subscription]
		to, still := after.Handled[subscription]
		return float64(to - from), known && still
	}
}

// handled is what all subscriptions handled together between two marks.
func handled(before, after admin.Mark) (sum float64, _ bool) {
	for name := range after.Handled {
		if n, ok := handledBy(name)(before, after); ok {
			sum += max(n, 0)
		}
	}
	return sum, true
}

// cached is a Status that several requests share for a moment.
type cached struct {
	mu     sync.Mutex
	status *admin.Status
	at     time.Time
}

// get returns a Status that is no older than half of the time between two looks. The caller must not change it.
func (c *cached) get(ctx context.Context, db outbox.Database, every time.Duration) (*admin.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status != nil && time.Since(c.at) < every/2 {
		return c.status, nil
	}
	status, err := admin.GetStatusUpTo(ctx, db, countedUpTo+1)
	if err != nil {
		return nil, err
	}
	c.status, c.at = status, time.Now()
	return status, nil
}

// forget has the next get look for itself: something was changed.
func (c *cached) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = nil
}
