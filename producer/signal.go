package producer

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/signalbox-go/signalbox/outbox"
)

// A Signal is a named measurement. To store one, set Name and Value.
type Signal struct {
	// ID is set by the database.
	ID int64 `json:"id"`
	// Name says what was measured, in at most 1,024 bytes. It is the key of the signal's event, so subscribers see the
	// signals of one name in order. Required.
	Name string `json:"name"`
	// Value is any finite number.
	Value float64 `json:"value"`
	// Timestamp is when it was measured. It is kept in UTC and to the microsecond, as the database does.
	// Defaults to now.
	Timestamp time.Time `json:"timestamp"`
}

// ErrInvalidSignal is what every *SignalError is.
var ErrInvalidSignal = errors.New("invalid signal")

// A SignalError says which of the signals to store was refused, and why. Nothing was stored.
type SignalError struct {
	Index  int    // of the signal among those to store, from 0
	Field  string // "name", "value" or "timestamp"
	Reason string
}

func (e *SignalError) Error() string {
	return fmt.Sprintf("signal %d: %s %s", e.Index, e.Field, e.Reason)
}

// Is makes errors.Is(err, ErrInvalidSignal) true.
func (e *SignalError) Is(target error) bool { return target == ErrInvalidSignal }

// check returns a *SignalError if the database, the event or its readers could not hold s.
func (s Signal) check(index int) error {
	refuse := func(field, reason string) error { return &SignalError{Index: index, Field: field, Reason: reason} }
	switch {
	case strings.TrimSpace(s.Name) == "":
		return refuse("name", "is empty")
	case len(s.Name) > outbox.MaxKeyBytes:
		return refuse("name", fmt.Sprintf("is %d bytes long, at most %d are allowed", len(s.Name), outbox.MaxKeyBytes))
	case strings.ContainsRune(s.Name, 0):
		return refuse("name", "has a zero byte, which PostgreSQL cannot store")
	case !utf8.ValidString(s.Name), strings.ContainsRune(s.Name, utf8.RuneError):
		// U+FFFD stands for what some decoder could not read, half a surrogate pair for example.
		return refuse("name", "is not valid Unicode")
	case math.IsNaN(s.Value), math.IsInf(s.Value, 0):
		return refuse("value", "is not a finite number")
	}
	if year := s.Timestamp.UTC().Year(); year < 1 || year > 9999 {
		return refuse("timestamp", "is outside of the years 1 to 9999")
	}
	return nil
}

// Random returns a signal to try things with. Its name is one of a few, so that some share a key.
func Random() Signal {
	names := [...]string{"current", "humidity", "pressure", "temperature", "voltage"}
	return Signal{
		Name:  names[rand.IntN(len(names))],
		Value: math.Round(rand.Float64()*10_000) / 100,
	}
}
