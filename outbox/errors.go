package outbox

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalidSubscription is wrapped by errors about a name or topics that a subscription cannot have.
var ErrInvalidSubscription = errors.New("invalid subscription")

// ErrUnknownSubscription is wrapped by errors about a subscription that does not exist. A worker creates it if it has Topics.
var ErrUnknownSubscription = errors.New("unknown subscription")

// A TopicsError is returned for a subscription that exists with other topics than those requested, and by workers if its topics were
// changed in its table, behind their cursors.
type TopicsError struct {
	Name       string   // of the subscription
	Have, Want []string // its topics, and those that were requested
}

func (e *TopicsError) Error() string {
	return fmt.Sprintf(`subscription %q has the topics %s, not %s: change them with "outbox subscriptions set-topics", which loses nothing`,
		e.Name, strings.Join(e.Have, " "), strings.Join(e.Want, " "))
}

// ErrForeignCluster is returned if the transaction ids in the log are those of another PostgreSQL cluster, for example after a dump was
// restored, until "outbox migrate --after" adopts the log.
var ErrForeignCluster = errors.New("the outbox was restored from a dump, replicated from another server or upgraded by pg_upgrade: " +
	`run "outbox migrate", which says how to adopt it`)

// ErrLogBehind is returned if a sequence of the outbox would hand out numbers for the second time: new events would be below the cursors,
// and no subscription would see them.
var ErrLogBehind = errors.New("the outbox's sequences are behind its tables, as after replication, setval or a crash with unlogged tables: " +
	`run "outbox migrate", which mends it`)

// ErrRowSecurity is wrapped by the error of a worker from whose role row security hides rows of the outbox: its cursors would pass events
// unseen. The error names the tables and the role.
var ErrRowSecurity = errors.New("row security hides rows of the outbox")
