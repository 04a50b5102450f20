package topic_test

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/signalbox-go/signalbox/internal/topic"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "a.b", false},
		{"a.b", "a", false},
		{"*", "a", true},
		{"*", "a.b", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.b.c", false},
		{">", "a", true},
		{">", "a.b.c", true},
		{"a.>", "a", false},
		{"a.>", "a.b", true},
		{"a.>", "a.b.c", true},
		{"a.>", "ab.c", false},
		{"*.>", "a.b", true},
		{"a_c", "abc", false},
		{"a%", "ab", false},
	}
	for _, test := range tests {
		if got := topic.Match(test.pattern, test.name); got != test.want {
			t.Errorf("Match(%q, %q) is %v", test.pattern, test.name, got)
		}
	}
}

func TestTopicFaults(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".", "a.", ".a", "a..b", "a b", "a\n", "*", "a.>", "\xff", "a\x00", strings.Repeat("x", 256)} {
		if topic.Fault(name) == "" {
			t.Errorf("%q passes as a topic", name)
		}
	}
	for _, pattern := range []string{"", ">.a", "a.>.b", "a*", "a.b>", "**", "a..>", strings.Repeat("x", 256)} {
		if topic.PatternFault(pattern) == "" {
			t.Errorf("%q passes as a pattern", pattern)
		}
	}
	for _, pattern := range []string{"a", "a.b", "*", "*.*", ">", "a.>", "a.*.b", "ä.ö", strings.Repeat("x", 255)} {
		if fault := topic.PatternFault(pattern); fault != "" {
			t.Errorf("%q is refused: it %s", pattern, fault)
		}
	}
}

// The two filters for the database follow from the one in Go: the regular expression agrees with it, and LIKE lets
// at least as much pass.
func TestFiltersAgree(t *testing.T) {
	t.Parallel()
	word := rapid.SampledFrom([]string{"a", "b", "ab", "a_b", "%", "+", "a\\"})
	dotted := func(tokens *rapid.Generator[string]) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(tokens, 1, 4).Draw(t, "tokens"), ".")
		})
	}
	pattern := dotted(rapid.OneOf(word, rapid.Just("*"))).Filter(func(s string) bool { return topic.PatternFault(s) == "" })
	rapid.Check(t, func(t *rapid.T) {
		p := pattern.Draw(t, "pattern")
		if rapid.Bool().Draw(t, "rest") {
			p += ".>"
		}
		ts := topic.Patterns{p, "z"}
		name := dotted(word).Draw(t, "topic")
		want := ts.Match(name)
		if got := regexp.MustCompile(ts.Regex()).MatchString(name); got != want {
			t.Errorf("%q against %q: the expression %s says %v", name, p, ts.Regex(), got)
		}
		like := false
		for _, l := range ts.Like() {
			like = like || likeToRegexp(l).MatchString(name)
		}
		if want && !like {
			t.Errorf("%q against %q: LIKE %q keeps it back", name, p, ts.Like())
		}
	})
}

// likeToRegexp is LIKE, spelled out.
func likeToRegexp(like string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for i := 0; i < len(like); i++ {
		switch like[i] {
		case '\\':
			i++
			b.WriteString(regexp.QuoteMeta(like[i : i+1]))
		case '%':
			b.WriteString(".*")
		case '_':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(like[i : i+1]))
		}
	}
	return regexp.MustCompile(b.String() + "$")
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, other string
		want           bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "*", false},
		{"a", ">", false},
		{"*", "a", true},
		{"*", "*", true},
		{"*", ">", false},
		{"*", "a.b", false},
		{">", ">", true},
		{">", "*", true},
		{">", "a.b", true},
		{"a.>", "a.>", true},
		{"a.>", "a.*", true},
		{"a.>", "a.b.>", true},
		{"a.>", "a", false},
		{"a.>", ">", false},
		{"a.>", "b.>", false},
		{"a.b.>", "a.>", false},
		{"a.*.>", "a.>", false},
		{"*.>", "a.>", true},
		{"*.>", ">", false},
		{"a.*", "a.>", false},
		{"a.*", "a.*", true},
		{"a.*", "*.b", false},
		{"*.b", "a.b", true},
	} {
		if got := (topic.Patterns{"none", c.pattern}).Covers(c.other); got != c.want {
			t.Errorf("%s covers %s: %v", c.pattern, c.other, got)
		}
	}
}
