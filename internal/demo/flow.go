package demo

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/signalbox-go/signalbox/internal/plain"
)

// maxLines is how many of the demo's own events a person can follow in a second. A faster demo tells of each second
// instead. maxOthers is the same for those of others, of which there may be any number.
const maxLines, maxOthers = 40, 10

// A flow tells of events as they pass. Safe for concurrent use.
type flow struct {
	out       *narrator
	condensed bool // the demo's own events do not get lines

	mu        sync.Mutex
	others    int // lines about those in this second
	passed    int // events that got no line
	latencies []time.Duration
}

func newFlow(out *narrator, rate int) *flow { return &flow{out: out, condensed: rate > maxLines} }

// show gives an event its line, or a part in the line of this second.
func (f *flow) show(p *passage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fits := !f.condensed
	if !p.own {
		fits = f.others < maxOthers
		f.others++
	}
	if fits && f.out.mention(f.line(p)) {
		return
	}
	f.passed++
	if p.own {
		for _, a := range p.arrivals {
			f.latencies = append(f.latencies, a.latency)
		}
	}
}

// run begins a new second each second, until ctx ends.
func (f *flow) run(ctx context.Context) {
	seconds := time.NewTicker(time.Second)
	defer seconds.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-seconds.C:
			f.tick()
		}
	}
}

// tick tells of what has passed without a line since the last one.
func (f *flow) tick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.others = 0
	if f.passed == 0 {
		return
	}
	what := "event"
	if !f.condensed {
		what = "more event"
	}
	line := fmt.Sprintf("%s  %13s, handled by %s", clock(), countOf(f.passed, what), strings.Join(labels, " and "))
	if len(f.latencies) > 0 {
		q := quantiles(f.latencies)
		line += f.out.paint(green, fmt.Sprintf("   p50 %s   p99 %s", inMilliseconds(q.P50), inMilliseconds(q.P99)))
	}
	if f.out.mention(line) { // else the next one tells
		f.passed, f.latencies = 0, f.latencies[:0]
	}
}

// line is what a person gets to see of an event.
func (f *flow) line(p *passage) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  ", clock(), f.out.paint(dim, fmt.Sprintf("event %-6d", p.event.ID)))
	if p.signal != nil {
		fmt.Fprintf(&b, "%-14s %8.2f", readable(p.signal.Name), p.signal.Value)
	} else {
		fmt.Fprintf(&b, "%-23s", readable(p.event.Topic))
	}
	for _, a := range p.arrivals {
		took := strings.Repeat(" ", 9) // for others' events, which were sent nobody knows when
		if p.own {
			took = fmt.Sprintf("%9s", inMilliseconds(float64(a.latency.Microseconds())/1000))
		}
		b.WriteString("   " + f.out.paint(cyan, fmt.Sprintf("%-8s", a.worker)) + f.out.paint(green, took))
	}
	if !p.own {
		b.WriteString("   " + f.out.paint(bold, "not sent by the demo"))
	}
	return b.String()
}

func clock() string { return time.Now().Format("15:04:05.000") }

func inMilliseconds(ms float64) string { return strconv.FormatFloat(ms, 'f', 1, 64) + " ms" }

// readable is somebody else's text as the terminal may show it, at most 24 characters of it.
func readable(text string) string { return plain.Quote(plain.Clip(text, 24)) }
