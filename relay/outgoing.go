package relay

import (
	"context"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// Describer is implemented by sinks that have names for their system and for what they send, as traces show them. Without it, the system of a
// message is "_OTHER", and its destination that of its route.
type Describer interface {
	// Describe fills in System and Attributes of out, and Destination if the system's name for it is another than m.Destination. The message is
	// not encoded yet; its body is nil if it is a tombstone.
	Describe(out *worker.Outgoing, m *Message)
}

// outgoing returns what is told of a message.
func outgoing(sink Sink, m *Message) *worker.Outgoing {
	out := &worker.Outgoing{System: "_OTHER", Destination: m.Destination, Template: m.template, Headers: m.Headers}
	if d, ok := sink.(Describer); ok {
		d.Describe(out, m)
	}
	return out
}

// A letter is a message on its way through middleware to the handler, in a context.
type letter struct {
	message *Message
	err     error
	out     *worker.Outgoing
}

type letterKey struct{}

// telling returns middleware that is told of messages. One before it addresses them.
func (e *Encoder) telling(sink Sink, told []worker.AsyncMiddleware) []worker.AsyncMiddleware {
	all := []worker.AsyncMiddleware{func(ctx context.Context, c worker.Call) (context.Context, func(error)) {
		l := &letter{}
		if l.message, l.err = e.address(c.Events[0]); l.message != nil {
			l.out = outgoing(sink, l.message)
		}
		return context.WithValue(ctx, letterKey{}, l), nil
	}}
	for _, m := range told {
		if m == nil {
			return told // which HandleAsync refuses
		}
		all = append(all, func(ctx context.Context, c worker.Call) (context.Context, func(error)) {
			if l, ok := ctx.Value(letterKey{}).(*letter); ok {
				c.Outgoing = l.out
			}
			return m(ctx, c)
		})
	}
	return all
}

// addressed returns the message that middleware was told of.
func (e *Encoder) addressed(ctx context.Context, ev *outbox.Event) (*Message, error) {
	if l, ok := ctx.Value(letterKey{}).(*letter); ok {
		return l.message, l.err
	}
	return e.address(ev) // middleware has returned a context of its own
}
