package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
)

// A moment is a flag that takes a time, or how long ago it was.
type moment struct{ time.Time }

// momentForms is what a moment may look like, for messages.
const momentForms = "a time such as 2026-01-31T12:00:00Z, a day such as 2026-01-31, or how long ago it was such as 90s, 1h30m or 7d"

// UnmarshalText is how kong reads it.
func (m *moment) UnmarshalText(text []byte) error {
	given := string(text)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, given, time.Local); err == nil {
			m.Time = at
			return nil
		}
	}
	ago, err := time.ParseDuration(given)
	if days, ok := strings.CutSuffix(given, "d"); ok && err != nil {
		var n int
		n, err = strconv.Atoi(days)
		ago = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || ago < 0 {
		return fmt.Errorf("%q is not %s", given, momentForms)
	}
	m.Time = time.Now().Add(-ago)
	return nil
}

// argument is the moment as a flag that means the same tomorrow.
func (m moment) argument() string { return m.UTC().Format(time.RFC3339Nano) }

// A place is a flag that takes a position in the log.
type place struct {
	position outbox.Position
	argument string // what means the same tomorrow; empty where it was not given
}

// UnmarshalText is how kong reads it.
func (p *place) UnmarshalText(text []byte) error {
	given := string(text)
	p.argument = given
	switch id, err := strconv.ParseInt(given, 10, 64); {
	case given == "beginning":
		p.position = outbox.FromBeginning
	case given == "now":
		p.position = outbox.FromNow
	case err == nil && id > 0:
		p.position = outbox.FromID(id)
	default:
		var m moment
		if m.UnmarshalText(text) != nil {
			return fmt.Errorf("%q is not beginning, now, the id of an event, %s", given, momentForms)
		}
		p.position, p.argument = outbox.FromTime(m.Time), m.argument()
	}
	return nil
}
