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
	want := make([]string, len(e.Want))
	for i, topic := range e.Want {
		want[i] = quoteLiteral(topic)
	}
	return fmt.Sprintf("subscription %q has the topics %s, not %s: leave them out, use another name, or change them with "+
		"\"update outbox.subscriptions set topics = array[%s] where name = %s\" and restart its workers",
		e.Name, strings.Join(e.Have, " "), strings.Join(e.Want, " "), strings.Join(want, ", "), quoteLiteral(e.Name))
}

// ErrForeignCluster says that the log was restored from a dump of another cluster and has not been adopted yet.
var ErrForeignCluster = errors.New(`the outbox was restored from another cluster: stop its producers and run "outbox migrate" to adopt it`)

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
