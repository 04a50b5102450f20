package drive

import (
	"errors"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/worker"
)

// What an answer of a sink asks of the worker.
const (
	Stored = "stored"
	Again  = "again"
	Dead   = "dead letter"
	Outage = "outage"
)

// Kind tells what an answer asks of the worker, by its text: the worker alone can tell it otherwise.
func Kind(err error) string {
	nothing := errors.New("")
	switch {
	case err == nil:
		return Stored
	case strings.HasPrefix(err.Error(), worker.DeadLetter(nothing).Error()):
		return Dead
	case strings.HasPrefix(err.Error(), worker.Outage(nothing).Error()):
		return Outage
	default:
		return Again
	}
}

// Want compares an answer with its kind, and with a part of its text, which must be one line.
func Want(t testing.TB, err error, kind, part string) {
	t.Helper()
	if Kind(err) != kind || err != nil && (!strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n")) {
		t.Errorf("ended as %q (%v), want %q with %q in one line", Kind(err), err, kind, part)
	}
}
