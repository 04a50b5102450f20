package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/outbox"
)

// An Upcast turns a payload of one schema version into one of the next version: raw JSON in, raw JSON out, so fields that it does not
// mention stay. It must be safe for concurrent use. It may keep and modify what it gets. If it returns an error or panics, the payload
// does not decode. See Subscription.Upcasts.
type Upcast func(payload json.RawMessage) (json.RawMessage, error)

// A DecodeErrorPolicy says what becomes of events whose payloads do not decode.
type DecodeErrorPolicy int

const (
	// RetryDecodeErrors has them tried again: the worker may be older than the publisher, and another may know them. That uses up no
	// attempt. The delay is the age of the event, but at least Retry.InitialInterval and at most Retry.MaxInterval; and a worker that
	// claims an event's lane, as after a deploy, tries it at once. Later events of the key wait. It ends when the payload decodes, or an
	// operator skips or discards the event.
	RetryDecodeErrors DecodeErrorPolicy = iota
	// DeadLetterDecodeErrors makes them dead letters at once.
	DeadLetterDecodeErrors
)

// payloads says how a subscription decodes payloads.
type payloads struct {
	steps     map[int]Upcast
	version   int  // that the handler decodes
	versioned bool // the subscription says something about versions
	policy    DecodeErrorPolicy
}

func payloadsOf(s *Subscription) *payloads {
	p := &payloads{steps: maps.Clone(s.Upcasts), version: s.SchemaVersion, policy: s.OnDecodeError}
	p.versioned = p.version != 0 || len(p.steps) > 0
	if p.version == 0 {
		p.version = 1
		for from := range p.steps {
			p.version = max(p.version, from+1)
		}
	}
	return p
}

// gap says what is wrong with the steps: each has to lead to the next one, and the last to the handler's version.
func (p *payloads) gap() string {
	for _, from := range slices.Sorted(maps.Keys(p.steps)) {
		switch {
		case p.steps[from] == nil:
			return fmt.Sprintf("Upcasts[%d] is nil", from)
		case from < 1:
			return fmt.Sprintf("Upcasts has a step from version %d, the first one is 1", from)
		case from >= p.version:
			return fmt.Sprintf("Upcasts has a step from version %d, and SchemaVersion is %d", from, p.version)
		case from+1 < p.version && p.steps[from+1] == nil:
			return fmt.Sprintf("Upcasts has a step from version %d to %d, and none from there to %d", from, from+1, p.version)
		}
	}
	return ""
}

// upcast returns the event's payload in the version that the handler decodes.
func (p *payloads) upcast(e *outbox.Event) (json.RawMessage, error) {
	version, err := versionOf(e)
	if err != nil || version == p.version {
		return e.Payload, err
	}
	if version > p.version {
		return nil, fmt.Errorf("%s is %d, and this worker knows payloads up to version %d", outbox.SchemaVersionHeader, version, p.version)
	}
	payload := slices.Clone(e.Payload) // the event's own stays as it is, whatever a step does with it
	for ; version < p.version; version++ {
		step := p.steps[version]
		if step == nil {
			return nil, fmt.Errorf("%s is %d, and there is no step from there: add Upcasts[%d]", outbox.SchemaVersionHeader, version, version)
		}
		if payload, err = call(step, payload); err != nil {
			return nil, fmt.Errorf("upcast from %s %d: %w", outbox.SchemaVersionHeader, version, err)
		}
	}
	return payload, nil
}

// call guards a step: in a batch, what ends the goroutine would cost all its events an attempt.
func call(step Upcast, payload json.RawMessage) (next json.RawMessage, err error) {
	fault := guard.Call(func() { next, err = step(payload) })
	var p *guard.PanicError
	switch {
	case errors.As(fault, &p):
		return nil, fmt.Errorf("%w\n%s", p, p.Stack)
	case fault != nil:
		return nil, fault
	case err == nil && !json.Valid(next):
		return nil, errors.New("what it returned is not JSON")
	}
	return next, err
}

// versionOf returns the version of an event's payload.
func versionOf(e *outbox.Event) (int, error) {
	value, stated := e.Headers[outbox.SchemaVersionHeader]
	if !stated {
		return 1, nil
	}
	version, err := strconv.Atoi(value)
	if err != nil || version < 1 {
		return 0, fmt.Errorf("header %s is %q, must be a number from 1", outbox.SchemaVersionHeader, value)
	}
	return version, nil
}

// undecoded is the error for an event whose payload does not decode. A step may say otherwise, as with [Skip].
func (p *payloads) undecoded(err error) error {
	var asked *outcome
	switch {
	case errors.As(err, &asked):
		return err
	case p.policy == DeadLetterDecodeErrors:
		return DeadLetter(err)
	}
	return &outcome{kind: forOthers, cause: err}
}
