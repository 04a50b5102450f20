package main

import (
	"errors"
	"fmt"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// Exit codes beyond those of every command. docs/cli.md and the help tell them.
const (
	exitUnknown = 3 // what was named does not exist
	exitRefused = 4 // nothing was changed: it was not confirmed, or workers are in the way
)

const exitCodes = `Exit codes: 0 done, 1 an error such as a database that is away or has another schema, 2 wrong usage, 3 no such subscription,
event or delivery, 4 refused (not confirmed, or served by workers), 130 and 143 interrupted. doctor, and health, have their own.`

// errUnknownDelivery says that a subscription has no delivery of an event.
var errUnknownDelivery = errors.New("no such delivery")

// withCode gives errors that scripts want to tell apart an exit code of their own.
func withCode(err error) error {
	var (
		served *admin.ServedError
		topics *outbox.TopicsError
		older  *admin.FeatureError
	)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, admin.ErrInvalidFilter), errors.Is(err, outbox.ErrInvalidPosition), errors.Is(err, outbox.ErrInvalidSubscription):
		return &cli.UsageError{Err: err}
	case errors.Is(err, outbox.ErrUnknownSubscription):
		return &cli.ExitError{Code: exitUnknown, Err: fmt.Errorf(`%w ("outbox subscriptions list" shows which there are)`, err)}
	case errors.Is(err, admin.ErrUnknownEvent), errors.Is(err, errUnknownDelivery), errors.Is(err, admin.ErrUnknownFeature):
		return &cli.ExitError{Code: exitUnknown, Err: err}
	case errors.Is(err, errUnconfirmed), errors.As(err, &served), errors.As(err, &topics), errors.As(err, &older):
		return &cli.ExitError{Code: exitRefused, Err: err}
	}
	return err
}
