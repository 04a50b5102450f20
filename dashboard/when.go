package dashboard

import (
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// readTime reads a field with a time, the zero time where it is empty.
func readTime(field, text string) (time.Time, error) {
	if strings.TrimSpace(text) == "" {
		return time.Time{}, nil
	}
	at, err := admin.ParseTime(text)
	if err != nil {
		return time.Time{}, badRequest(field + ": " + err.Error())
	}
	return at, nil
}

// readPosition reads a field with a position, the beginning where it is empty.
func readPosition(field, text string) (outbox.Position, error) {
	if strings.TrimSpace(text) == "" {
		return outbox.FromBeginning, nil
	}
	p, err := admin.ParsePosition(text)
	if err != nil {
		return outbox.Position{}, badRequest(field + ": " + err.Error())
	}
	return p, nil
}
