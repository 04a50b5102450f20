package outbox

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalidSubscription says that a subscription's name or topics are not possible.
var ErrInvalidSubscription = errors.New("invalid subscription")

// ErrUnknownSubscription says that a subscription does not exist and, where it would be created, that no topics were given.
var ErrUnknownSubscription = errors.New("unknown subscription")

// A TopicsError says that a subscription exists with other topics than asked for.
type TopicsError struct {
	Name       string
	Have, Want []string
}

func (e *TopicsError) Error() string {
	return fmt.Sprintf("subscription %q has the topics %s, not %s, and they cannot change: leave them out, or use another subscription, "+
		"for example one for the added topics only",
		e.Name, strings.Join(e.Have, " "), strings.Join(e.Want, " "))
}

// ErrForeignCluster says that the transaction ids in the log are from elsewhere, and that it has not been adopted yet.
var ErrForeignCluster = errors.New("the outbox was restored from a dump, replicated from another server or upgraded by pg_upgrade: " +
	`stop its producers and run "outbox migrate" to adopt it`)

// ErrLogBehind says that a sequence of the outbox hands out numbers again that were handed out before: what is published would be
// below the cursors, and no subscription would see it.
var ErrLogBehind = errors.New("the outbox's sequences are behind its tables, as after replication, setval or a crash with unlogged tables: " +
	`stop its producers and run "outbox migrate" to mend it`)

// ErrRowSecurity says that row security hides rows of the outbox from the role that asks: see [RowSecurityError].
var ErrRowSecurity = errors.New("row security hides rows of the outbox")

// A RowSecurityError says from which role row security hides rows of the outbox: its cursors would pass events unseen.
type RowSecurityError struct {
	Role   string
	Tables []string // with their schema
}

func (e *RowSecurityError) Error() string {
	return fmt.Sprintf(`row security hides rows of %s from role %s: run "alter role %s bypassrls", or "alter table %s disable row level security"`,
		strings.Join(e.Tables, ", "), e.Role, e.Role, e.Tables[0])
}

// Is makes errors.Is(err, ErrRowSecurity) true.
func (e *RowSecurityError) Is(target error) bool { return target == ErrRowSecurity }
