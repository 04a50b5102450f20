package dashboard

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A place is where in the log something begins or ends: an id, a time, or nothing.
type place struct {
	id int64
	at time.Time
}

// fixedLayout is how times are written that were read: as exactly as PostgreSQL has them.
const fixedLayout = "2006-01-02 15:04:05.999999Z07:00"

// layouts are how times may be written. Those that do not say otherwise are UTC.
var layouts = []string{
	time.RFC3339Nano, fixedLayout, "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02 15:04:05.999", "2006-01-02",
}

// parseTime reads a time, or how long ago it was: 90s, 15m, 2h, 3d.
func parseTime(field, text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 36500 {
			return time.Now().Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return time.Now().Add(-ago), nil
	}
	for _, layout := range layouts {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, badRequest(fmt.Sprintf("%q cannot be read as the time %q: write how long ago, such as 15m, 2h or 3d, or 2006-01-02 15:04 (UTC)", text, field))
}

// parsePlace reads an id, or what parseTime does.
func parsePlace(field, text string) (place, error) {
	text = strings.TrimSpace(text)
	if id, err := strconv.ParseInt(text, 10, 64); err == nil {
		if id < 1 {
			return place{}, badRequest(fmt.Sprintf("%q is no event's id: they begin at 1", text))
		}
		return place{id: id}, nil
	}
	at, err := parseTime(field, text)
	return place{at: at}, err
}

// fixed is a time as parseTime reads it again, "" for none.
func fixed(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(fixedLayout)
}
