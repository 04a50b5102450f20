// Package topic matches topics with the patterns of subscriptions.
package topic

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/signalbox-go/signalbox/internal/storable"
)

// maxTopicBytes is outbox.MaxTopicBytes.
const maxTopicBytes = 255

// Fault says what is wrong with a topic to publish to, or "".
func Fault(topic string) string {
	if fault := dottedFault(topic); fault != "" {
		return fault
	}
	if strings.ContainsAny(topic, "*>") {
		return fmt.Sprintf("%q has a wildcard: those belong in a subscription's topics", topic)
	}
	return ""
}

// PatternFault says what is wrong with a topic to subscribe to, or "".
func PatternFault(pattern string) string {
	if fault := dottedFault(pattern); fault != "" {
		return fault
	}
	tokens := strings.Split(pattern, ".")
	for i, token := range tokens {
		switch {
		case token == ">" && i != len(tokens)-1:
			return fmt.Sprintf("%q has > before its end", pattern)
		case len(token) > 1 && strings.ContainsAny(token, "*>"):
			return fmt.Sprintf("%q mixes a wildcard with other characters in one token", pattern)
		}
	}
	return ""
}

// dottedFault checks what topics and patterns share: non-empty tokens between dots, without spaces.
func dottedFault(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > maxTopicBytes:
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(s), maxTopicBytes)
	case !storable.Text(s):
		return "is not UTF-8 text without zero bytes"
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return fmt.Sprintf("%q has a space or control character", s)
	case strings.HasPrefix(s, "."), strings.HasSuffix(s, "."), strings.Contains(s, ".."):
		return fmt.Sprintf("%q has an empty token", s)
	}
	return ""
}

// Match reports whether a topic matches a pattern: an exact name, with * for any one token, and with > as the
// last token for one or more. Both are taken as valid.
func Match(pattern, topic string) bool {
	for {
		want, restWant, moreWant := strings.Cut(pattern, ".")
		have, restHave, moreHave := strings.Cut(topic, ".")
		switch {
		case want == ">":
			return true
		case want != "*" && want != have:
			return false
		case !moreWant || !moreHave:
			return moreWant == moreHave
		}
		pattern, topic = restWant, restHave
	}
}

// Patterns is the list of a subscription.
type Patterns []string

// Match reports whether a topic matches one of the patterns.
func (ts Patterns) Match(topic string) bool {
	for _, pattern := range ts {
		if Match(pattern, topic) {
			return true
		}
	}
	return false
}

// Covers reports whether one of the patterns matches whatever another pattern does.
func (ts Patterns) Covers(other string) bool {
	for _, pattern := range ts {
		if covers(pattern, other) {
			return true
		}
	}
	return false
}

// covers is Match for a topic with wildcards.
func covers(pattern, other string) bool {
	if rest, ok := strings.CutSuffix(other, ">"); ok && (rest == "" || strings.HasSuffix(rest, ".")) {
		// Only > matches any number of tokens.
		mine, ok := strings.CutSuffix(pattern, ">")
		return ok && strings.Count(mine, ".") <= strings.Count(rest, ".") && Match(pattern, rest+"x")
	}
	return Match(pattern, other)
}

// all reports whether every topic matches, so that there is nothing to filter.
func (ts Patterns) all() bool {
	for _, pattern := range ts {
		if pattern == ">" {
			return true
		}
	}
	return false
}

var likeEscape = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// Like returns LIKE patterns that let at least every match pass: a cheap filter in the database, so that payloads
// nobody wants are not sent. match decides. Nil means that there is nothing to filter.
func (ts Patterns) Like() []string {
	if ts.all() {
		return nil
	}
	patterns := make([]string, len(ts))
	for i, pattern := range ts {
		tokens := strings.Split(pattern, ".")
		for j, token := range tokens {
			if token == "*" || token == ">" {
				tokens[j] = "%"
			} else {
				tokens[j] = likeEscape.Replace(token)
			}
		}
		patterns[i] = strings.Join(tokens, ".")
	}
	return patterns
}

// Regex returns a POSIX regular expression that matches exactly as match does, for the database: also where a publisher in SQL
// left a token empty.
func (ts Patterns) Regex() string {
	alternatives := make([]string, len(ts))
	for i, pattern := range ts {
		tokens := strings.Split(pattern, ".")
		for j, token := range tokens {
			switch token {
			case "*":
				tokens[j] = `[^.]*`
			case ">":
				tokens[j] = `.*`
			default:
				tokens[j] = regexp.QuoteMeta(token)
			}
		}
		alternatives[i] = strings.Join(tokens, `\.`)
	}
	return "^(" + strings.Join(alternatives, "|") + ")$"
}
