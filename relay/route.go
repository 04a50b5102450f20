package relay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Route is where an event goes.
type Route struct {
	Destination string            // in the sink's system; see [Message]
	Key         string            // of the message; may be empty
	Headers     map[string]string // added to those of the event
	Template    string            // what Destination was made by, for traces, if there are many such destinations: "users.{key}"; else empty
	Drop        bool              // settle the event without sending it
}

// A Router says where an event goes. An error makes the event a dead letter. A Router must be quick and safe for concurrent use. Events of one
// key that it routes to different keys or destinations may overtake each other.
type Router func(e *outbox.Event) (Route, error)

func byTopic(e *outbox.Event) (Route, error) { return Route{Destination: e.Topic, Key: e.Key}, nil }

// Template returns a router that makes destinations of a text such as "shop.{topic[0]}". The text may have {topic}, {topic[N]} for a token of
// the topic, from 0, or from the end with -1, and {key}. An event that lacks the token or the key has no route. Keys stay as they are. It
// returns an error that says what is wrong with the text.
func Template(text string) (Router, error) {
	parts, err := parseTemplate(text)
	if err != nil {
		return nil, err
	}
	template := ""
	if strings.Contains(text, "{key}") {
		template = text
	}
	return func(e *outbox.Event) (Route, error) {
		var to strings.Builder
		for _, part := range parts {
			text, err := part(e)
			if err != nil {
				return Route{}, err
			}
			to.WriteString(text)
		}
		return Route{Destination: to.String(), Key: e.Key, Template: template}, nil
	}, nil
}

// A part of a template.
type part func(e *outbox.Event) (string, error)

func parseTemplate(text string) (parts []part, err error) {
	if text == "" {
		return nil, errors.New("the template is empty")
	}
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return nil, fmt.Errorf("template %q has a } without {", text)
		}
		if before != "" {
			parts = append(parts, func(*outbox.Event) (string, error) { return before, nil })
		}
		if !found {
			break
		}
		name, behind, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("template %q has a { without }", text)
		}
		p, err := placeholder(name)
		if err != nil {
			return nil, fmt.Errorf("template %q: %w", text, err)
		}
		parts, rest = append(parts, p), behind
	}
	return parts, nil
}

func placeholder(name string) (part, error) {
	switch name {
	case "topic":
		return func(e *outbox.Event) (string, error) { return e.Topic, nil }, nil
	case "key":
		return func(e *outbox.Event) (string, error) {
			if e.Key == "" {
				return "", errors.New("the event has no key")
			}
			return e.Key, nil
		}, nil
	}
	if number, ok := strings.CutPrefix(name, "topic["); ok {
		if n, err := strconv.Atoi(strings.TrimSuffix(number, "]")); err == nil && strings.HasSuffix(number, "]") {
			return token(n), nil
		}
	}
	return nil, fmt.Errorf("{%s} is unknown, use {topic}, {topic[0]} or {key}", name)
}

// token is one token of a topic, from the end where n is negative.
func token(n int) part {
	return func(e *outbox.Event) (string, error) {
		tokens := strings.Split(e.Topic, ".")
		i := n
		if i < 0 {
			i += len(tokens)
		}
		if i < 0 || i >= len(tokens) {
			return "", fmt.Errorf("topic %s has no token %d", e.Topic, n)
		}
		return tokens[i], nil
	}
}

// A Rule routes events of some topics.
type Rule struct {
	Topics []string // exact names, or patterns as of subscriptions; empty for all
	To     string   // a template, see [Template]
	Drop   bool     // settle the events without sending them
}

// Rules returns a router that applies the first rule that matches the topic of an event. An event that matches no rule has no route. It returns
// an error that names the rule and says what is wrong with it.
func Rules(rules ...Rule) (Router, error) {
	routers := make([]Router, len(rules))
	for i, r := range rules {
		for _, t := range r.Topics {
			if fault := topic.PatternFault(t); fault != "" {
				return nil, fmt.Errorf("rule %d: topic %s", i+1, fault)
			}
		}
		if r.Drop != (r.To == "") {
			return nil, fmt.Errorf("rule %d has both or neither of a destination and drop: it needs one of them", i+1)
		}
		if r.Drop {
			routers[i] = func(*outbox.Event) (Route, error) { return Route{Drop: true}, nil }
			continue
		}
		var err error
		if routers[i], err = Template(r.To); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return func(e *outbox.Event) (Route, error) {
		for i, r := range rules {
			if len(r.Topics) == 0 || topic.Patterns(r.Topics).Match(e.Topic) {
				return routers[i](e)
			}
		}
		return Route{}, fmt.Errorf("no rule is for topic %s", e.Topic)
	}, nil
}
