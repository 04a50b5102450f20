package topic_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"

	"github.com/signalbox-go/signalbox/internal/storable"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// FuzzTopics compares Match with the definition, spelled out token by token, and with PostgreSQL's idea of the two filters:
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
	f.Fuzz(func(t *testing.T, pattern, name string) {
		// Publishers in SQL may leave tokens empty, or use any character.
		if topic.PatternFault(pattern) != "" || name == "" || len(name) > outbox.MaxTopicBytes || !storable.Text(name) {
			return
		}
		want := matchTokens(strings.Split(pattern, "."), strings.Split(name, "."))
		if got := topic.Match(pattern, name); got != want {
			t.Errorf("Match(%q, %q) is %t", pattern, name, got)
		}
		ts := topic.Patterns{pattern, "another.*.one"}
		if ts.Match(name) != want && !topic.Match("another.*.one", name) {
			t.Errorf("%q of two patterns: %q matches differently", pattern, name)
		}
		want = ts.Match(name)
		var like, regex bool
		err := conn.QueryRow(t.Context(), `select $1::text[] is null or $2::text like any ($1::text[]), $2 ~ $3`, ts.Like(), name, ts.Regex()).
			Scan(&like, &regex)
		if err != nil {
			t.Fatalf("%q: %v", pattern, err)
		}
		if regex != want {
			t.Errorf("%q against %q: in the database, the expression %s says %t", pattern, name, ts.Regex(), regex)
		}
		if want && !like {
			t.Errorf("%q against %q: in the database, LIKE %q keeps it back", pattern, name, ts.Like())
		}
	})
}

// matchTokens is what patterns mean.
func matchTokens(pattern, name []string) bool {
	if slices.Equal(pattern, []string{">"}) {
		return len(name) > 0
	}
	if len(pattern) == 0 || len(name) == 0 {
		return len(pattern) == len(name)
	}
	return (pattern[0] == "*" || pattern[0] == name[0]) && matchTokens(pattern[1:], name[1:])
}
