package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/topic"
)

// unservedAfter is how long no worker may know all topics of a subscription before this one says so: others may be about to join.
const unservedAfter = 3 * time.Second

// knows reports whether the handler was registered for all events of the given topics. Without Topics, it takes what there is.
func (r *registration) knows(topics []string) bool { return len(r.unknown(topics)) == 0 }

// unknown returns those of the given topics that the handler was not registered for.
func (r *registration) unknown(topics []string) []string {
	if len(r.Topics) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(topics), topic.Patterns(r.Topics).Covers)
}

// rejoin takes the topics that the subscription has now. It owns no lane. A worker that does not know all of them leaves the lanes to
// others: it is older than the change, in a deploy or after a rollback.
func (r *runner) rejoin(ctx context.Context) error {
	topics, known, err := r.member.Rejoin(ctx, r.sub.knows)
	if err != nil {
		return err
	}
	r.unknown, r.unserved = nil, time.Time{}
	if !known {
		r.unknown = topics
		r.log.Warn("this worker does not know all topics of the subscription: it leaves the lanes to workers that do", "unknown", r.sub.unknown(topics))
		return nil
	}
	if more := slices.DeleteFunc(slices.Clone(r.sub.Topics), topic.Patterns(topics).Covers); len(more) > 0 {
		r.log.Warn(`the subscription does not have all topics of this worker, and receives no events of the others: add them with "outbox subscriptions set-topics"`,
			"missing", more, "topics", topics)
	}
	return nil
}

// heedTopics joins anew when the subscription has other topics than this worker reads with, once it has released its lanes. Where no worker
// knows all of them, it says what to do.
func (r *runner) heedTopics(ctx context.Context, topics []string, share engine.Share) error {
	if topics == nil {
		return nil
	}
	if r.mask() == 0 && !slices.Equal(topics, r.unknown) {
		if err := r.rejoin(ctx); err != nil {
			return err
		}
	}
	switch now := time.Now(); {
	case r.unknown == nil || share.Sharing > 0:
		r.unserved = time.Time{}
	case r.unserved.IsZero():
		r.unserved = now
	case now.Sub(r.unserved) >= unservedAfter:
		r.unserved = now.Add(reloadEvery) // and again, while it lasts
		r.log.Error(`no worker knows all topics of the subscription, so nothing of it is handled: start workers that do, `+
			`or take the topics away with "outbox subscriptions set-topics"`, "topics", r.unknown, "unknown", r.sub.unknown(r.unknown))
	}
	return nil
}

// strange returns the failure of a delivery whose topic this worker does not know: it waits for another one.
func (r *runner) strange(e *engine.Event) *failure {
	if len(r.sub.Topics) == 0 || topic.Patterns(r.sub.Topics).Match(e.Topic) {
		return nil
	}
	return failureOf(&outcome{kind: forOthers, cause: fmt.Errorf("this worker does not know topic %s: its Topics lack it", e.Topic)})
}
