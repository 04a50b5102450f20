package outbox

import (
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// FuzzTopics compares MatchTopic with the definition, spelled out token by token, and with PostgreSQL's idea of the two filters:
// the expression matches exactly, and LIKE lets at least every match pass.
func FuzzTopics(f *testing.F) {
	for _, seed := range [][2]string{
		{"a", "a"},
		{"a.*", "a.b"},
		{"a.>", "a.b.c"},
		{"*.>", "a"},
		{">", "ü.𝄞"},
		{"a_b.*.%", "a_b.x.%"},
		{`a\.*`, `a\.b`},
		{`(?i)a.*`, "(?i)a.B"},
		{"***:a.*", "***:a.b"},
		{"a.[^.]+", "a.b"},
		{"*.ſ", "a.s"},
		{"a.*.b.*.c", "a.b.b.b.c"},
		{"$1.^", "$1.^"},
		{"a.*", "a."},
		{"a.>", "a."},
		{"*", "\n"},
		{"*.b", ".b"},
	} {
		f.Add(seed[0], seed[1])
	}
	conn := pgtest.NewEmpty(f).Conn(f)
	f.Fuzz(func(t *testing.T, pattern, topic string) {
		// Publishers in SQL may leave tokens empty, or use any character.
		if patternFault(pattern) != "" || topic == "" || len(topic) > MaxTopicBytes || !storableText(topic) {
			return
		}
		want := matchTokens(strings.Split(pattern, "."), strings.Split(topic, "."))
		if got := MatchTopic(pattern, topic); got != want {
			t.Errorf("MatchTopic(%q, %q) is %t", pattern, topic, got)
		}
		ts := topics{pattern, "another.*.one"}
		if ts.match(topic) != want && !MatchTopic("another.*.one", topic) {
			t.Errorf("%q of two patterns: %q matches differently", pattern, topic)
		}
		want = ts.match(topic)
		var like, regex bool
		err := conn.QueryRow(t.Context(), `select $1::text[] is null or $2::text like any ($1::text[]), $2 ~ $3`, ts.like(), topic, ts.regex()).
			Scan(&like, &regex)
		if err != nil {
			t.Fatalf("%q: %v", pattern, err)
		}
		if regex != want {
			t.Errorf("%q against %q: in the database, the expression %s says %t", pattern, topic, ts.regex(), regex)
		}
		if want && !like {
			t.Errorf("%q against %q: in the database, LIKE %q keeps it back", pattern, topic, ts.like())
		}
	})
}

// matchTokens is what patterns mean.
func matchTokens(pattern, topic []string) bool {
	if slices.Equal(pattern, []string{">"}) {
		return len(topic) > 0
	}
	if len(pattern) == 0 || len(topic) == 0 {
		return len(pattern) == len(topic)
	}
	return (pattern[0] == "*" || pattern[0] == topic[0]) && matchTokens(pattern[1:], topic[1:])
}
