package report

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Markdown writes the result for people.
func (r *Result) Markdown(w io.Writer) error {
	p := &printer{w: w}
	m := r.Meta
	p.line("# Benchmark results")
	p.line("")
	p.line("%s, in %v. %d cores (%s), %.0f GiB, %s, %s, PostgreSQL %s; Signalbox at %s.", m.At.UTC().Format("2006-01-02 15:04 MST"),
		m.Took.Round(time.Second), m.Cores, m.CPU, m.MemoryGiB, m.OS, m.Go, m.PostgreSQL, m.Revision)
	p.line("Server, publishers and workers share these cores. Values are medians of the rounds, with the least and the greatest in")
	p.line("parentheses; ratios are taken within a round. Ratios travel better than figures.")
	p.line("")
	p.line("Server: %s.", settings(m.Settings))
	p.line("")
	p.line("Run: %s. Again, in folder bench: `%s`.", settings(m.Options), m.Command)
	p.line("")
	p.line("\"Other load\" is how many cores other processes of the machine used, plus what the host took, in the worst round.")
	for _, s := range r.Scenarios {
		p.scenario(r, s)
	}
	p.systems(r)
	return p.err
}

func (p *printer) scenario(r *Result, s Scenario) {
	p.line("")
	p.line("## %d. %s", s.Number, s.Title)
	p.line("")
	p.line("%s", s.Method)
	p.line("")
	header := []string{"case", "system"}
	for _, c := range s.Columns {
		header = append(header, c.Title)
	}
	p.header(append(header, "other load", "rounds"))
	for _, row := range r.rows(s.Number) {
		cells := []string{row.Case, row.System}
		for _, c := range s.Columns {
			if stat, ok := row.stat(c.Key); ok {
				cells = append(cells, stat.String())
			} else {
				cells = append(cells, "")
			}
		}
		load := "unknown"
		other, known := row.worst(func(s *Sample) *float64 { return s.OtherLoad })
		steal, _ := row.worst(func(s *Sample) *float64 { return s.Steal })
		if known {
			load = fmt.Sprintf("%.2f + %.2f", other, steal)
		}
		rounds := strconv.Itoa(len(row.samples))
		if fault := row.fault(); fault != "" {
			rounds += ": " + fault
		}
		p.row(append(cells, load, rounds))
	}
	p.targets(r, s.Number)
}

func (p *printer) targets(r *Result, scenario int) {
	first := true
	for _, t := range r.Targets {
		if t.Scenario != scenario {
			continue
		}
		if first {
			p.line("")
			p.header([]string{"target", "wanted", "measured", ""})
			first = false
		}
		measured, met, known := r.verdict(&t)
		switch {
		case !known:
			p.row([]string{t.What, t.wanted(), "", "not measured"})
		case met:
			p.row([]string{t.What, t.wanted(), measured.String(), "met"})
		default:
			p.row([]string{t.What, t.wanted(), measured.String(), "**missed**"})
		}
	}
}

func (p *printer) systems(r *Result) {
	p.line("")
	p.line("## Systems")
	p.line("")
	p.header([]string{"system", "version", "settings"})
	for _, s := range r.Systems {
		p.row([]string{s.Name, s.Version, s.Settings})
	}
	p.line("")
	p.line("What they offer beside speed, at these settings:")
	p.line("")
	p.header([]string{
		"system", "several subscriptions", "order by key", "exactly once in the database", "takes over from a killed worker",
		"a lost notification", "under a held snapshot", "dead letters", "replay",
	})
	for _, s := range r.Systems {
		o := s.Offers
		p.row([]string{s.Name, o.Fanout, o.Order, o.ExactlyOnce, o.Takeover, o.LostWakeup, o.HeldSnapshot, o.DeadLetters, o.Replay})
	}
}

// String is "median (min to max)", or the value where there is one only.
func (s Stat) String() string {
	if s.N < 2 {
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", number(s.Median), number(s.Min), number(s.Max))
}

// number writes three significant digits, or all of a large integer part with commas: 0.973, 12.3, 4,321.
func number(v float64) string {
	if math.Abs(v) < 999.5 {
		digits := 2
		if v != 0 {
			digits = min(max(2-int(math.Floor(math.Log10(math.Abs(v)))), 0), 3)
		}
		text := strconv.FormatFloat(v, 'f', digits, 64)
		if strings.Contains(text, ".") {
			text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
		}
		return text
	}
	text := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func settings(of map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		list = append(list, fmt.Sprintf("`%s = %s`", name, of[name]))
	}
	return strings.Join(list, ", ")
}

// A printer writes lines until the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) row(cells []string) {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(strings.Join(strings.Fields(c), " "), "|", `\|`)
	}
	p.line("| %s |", strings.Join(cells, " | "))
}

func (p *printer) header(cells []string) {
	p.row(cells)
	p.line("|%s", strings.Repeat("---|", len(cells)))
}
