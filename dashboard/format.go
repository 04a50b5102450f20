package dashboard

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
)

// functions are what templates call.
var functions = template.FuncMap{
	"num":     num,
	"counted": counted,
	"count":   func(counts map[outbox.State]int64, state outbox.State) int64 { return counts[state] },
	"rate":    rate,
	"age":     func(t time.Time) string { return span(time.Since(t)) },
	"until":   func(t time.Time) string { return span(time.Until(t)) },
	"past":    func(t time.Time) bool { return !t.After(time.Now()) },
	"stamp":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") },
	"machine": func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"link":    link,
	"join":    strings.Join,
	"first":   firstLine,
	"clip":    clip,
	"plural":  plural,
	"add":     func(a, b int) int { return a + b },
	"deref":   func(t *time.Time) time.Time { return *t },
}

// num groups digits: 1234567 is 1,234,567.
func num(n any) string {
	var v int64
	switch n := n.(type) {
	case int:
		v = int64(n)
	case int32:
		v = int64(n)
	case int64:
		v = n
	case float64:
		v = int64(math.Round(n))
	}
	digits := strconv.FormatInt(v, 10)
	sign := ""
	if v < 0 {
		sign, digits = "−", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// countedUpTo is the highest number of deliveries that is shown: more of them are not counted.
const countedUpTo = 10_000

// counted is a count that may have stopped there.
func counted(n int64) string {
	if n > countedUpTo {
		return num(countedUpTo) + "+"
	}
	return num(n)
}

// rate is a number of events a second.
func rate(r float64) string {
	switch {
	case r == 0:
		return "0"
	case r < 0.1:
		return "<0.1"
	case r < 10:
		return strconv.FormatFloat(r, 'f', 1, 64)
	}
	return num(r)
}

// span rounds a duration to what a person wants to know.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// clip shortens text to so many characters.
func clip(most int, s string) string {
	for i := range s {
		if most == 0 {
			return s[:i] + "…"
		}
		most--
	}
	return s
}

// plural chooses the word for a number of things: many is one with an s if it is left out.
func plural(n any, one, many string) string {
	if num(n) == "1" {
		return one
	}
	return cmp.Or(many, one+"s")
}
