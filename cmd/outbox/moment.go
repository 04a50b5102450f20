package main

import (
	"time"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// A moment is a flag that takes a time, or how long ago it was.
type moment struct{ time.Time }

// UnmarshalText is how kong reads it.
func (m *moment) UnmarshalText(text []byte) (err error) {
	m.Time, err = admin.ParseTime(string(text))
	return err
}

// argument is the moment as a flag that means the same tomorrow.
func (m moment) argument() string { return admin.FormatTime(m.Time) }

// A place is a flag that takes a position in the log.
type place struct {
	position outbox.Position
	argument string // what means the same tomorrow; empty where it was not given
}

// UnmarshalText is how kong reads it.
func (p *place) UnmarshalText(text []byte) (err error) {
	p.position, err = admin.ParsePosition(string(text))
	p.argument = admin.FormatPosition(p.position)
	return err
}
