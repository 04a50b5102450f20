package admin

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/internal/position"
	"github.com/signalbox-go/signalbox/outbox"
)

// timeForms is what [ParseTime] reads, for messages.
const timeForms = "how long ago (90s, 1h30m, 7d), or a time (2026-01-31, 2026-01-31 12:00, 2026-01-31T12:00:00+01:00; UTC unless it has a zone)"

// maxDaysAgo keeps what is far too long ago from overflowing a time.Duration.
const maxDaysAgo = 36_500

// ParseTime reads a time as operators type it: how long ago it was (90s, 1h30m, 7d, "2h ago"), now, a day (2026-01-31), or a time
// (2026-01-31 12:00, 2026-01-31T12:00:00+01:00). A time without a zone is in UTC, whatever the zone of the machine. The error
// names the forms, and is fit for operators.
func ParseTime(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "now" {
		return time.Now(), nil
	}
	if ago, ok := parseAgo(text); ok {
		return time.Now().Add(-ago), nil
	}
	for _, layout := range timeLayouts {
		// The zero time of Go means none in filters, which would then match everything.
		if at, err := time.Parse(layout, text); err == nil && !at.IsZero() {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time: write %s", text, timeForms)
}

// timeLayouts are the forms of times: a day and a clock, with seconds and a zone where they matter.
var timeLayouts = func() (list []string) {
	for _, separator := range []string{"T", " "} {
		for _, clock := range []string{"15:04:05", "15:04"} {
			for _, zone := range []string{"", "Z07:00", " Z07:00"} {
				list = append(list, time.DateOnly+separator+clock+zone)
			}
		}
	}
	return append(list, time.DateOnly)
}()

// parseAgo reads how long ago something was. Days are what time.ParseDuration lacks.
func parseAgo(text string) (time.Duration, bool) {
	text = strings.TrimSpace(strings.TrimSuffix(text, " ago"))
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		return time.Duration(n * 24 * float64(time.Hour)), err == nil && n >= 0 && n <= maxDaysAgo
	}
	ago, err := time.ParseDuration(text)
	return ago, err == nil && ago >= 0
}

// FormatTime writes a time so that [ParseTime] reads it again: to the microsecond, as PostgreSQL keeps it, and in UTC. It returns "" for the
// zero time.
func FormatTime(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02T15:04:05.999999Z07:00")
}

// ParsePosition reads a position in the log as operators type it: beginning, now, the id of an event, or a time as [ParseTime] does.
func ParsePosition(text string) (outbox.Position, error) {
	text = strings.TrimSpace(text)
	switch text {
	case "beginning":
		return outbox.FromBeginning, nil
	case "now":
		return outbox.FromNow, nil
	}
	if id, err := strconv.ParseInt(text, 10, 64); err == nil {
		if id < 1 {
			return outbox.Position{}, fmt.Errorf("%q is not the id of an event: ids begin at 1", text)
		}
		return outbox.FromID(id), nil
	}
	at, err := ParseTime(text)
	if err != nil {
		return outbox.Position{}, fmt.Errorf("%q is not a position: write beginning, now, the id of an event, %s", text, timeForms)
	}
	return outbox.FromTime(at), nil
}

// FormatPosition writes a position so that [ParsePosition] reads it again, and means the same whenever that is.
func FormatPosition(p outbox.Position) string {
	switch p.Kind {
	case position.Now:
		return "now"
	case position.ID:
		return strconv.FormatInt(p.ID, 10)
	case position.Time:
		return FormatTime(p.At)
	}
	return "beginning"
}
