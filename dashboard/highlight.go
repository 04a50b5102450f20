package dashboard

import (
	"strings"
	"unicode/utf8"
)

// A token is a piece of JSON in a colour.
type token struct {
	Kind string // "key", "string", "number", "word", or "" for the rest
	Text string
}

// shownPayload is how much of a payload is shown, in bytes of its indented form.
const shownPayload = 64 << 10

// highlight indents JSON and tells its parts apart, up to what is shown: the indentation of what is nested deeply is larger than the
// payload by far. It reports whether there is more.
func highlight(raw []byte) (tokens []token, cut bool) {
	var (
		text  = string(raw)
		plain strings.Builder // of no colour, since the last token
		size  int
		depth int
	)
	add := func(kind, s string) {
		if plain.Len() > 0 {
			tokens = append(tokens, token{"", plain.String()})
			plain.Reset()
		}
		if room := max(0, shownPayload-size); len(s) > room {
			for room > 0 && !utf8.RuneStart(s[room]) {
				room--
			}
			s, cut = s[:room], true
		}
		if s != "" {
			tokens = append(tokens, token{kind, s})
			size += len(s)
		}
	}
	rest := func(s string) {
		plain.WriteString(s)
		size += len(s)
	}
	line := func() { rest("\n" + strings.Repeat("  ", max(0, depth))) }
	for text = strings.TrimLeft(text, blank); text != "" && size < shownPayload; text = strings.TrimLeft(text, blank) {
		n := 1
		switch c := text[0]; {
		case c == '{' || c == '[':
			rest(text[:1])
			if after := strings.TrimLeft(text[1:], blank); after != "" && after[0] == c+2 { // "}" and "]" come two after their opposites
				rest(after[:1])
				n = len(text) - len(after) + 1
				break
			}
			depth++
			line()
		case c == '}' || c == ']':
			depth--
			line()
			rest(text[:1])
		case c == ',':
			rest(text[:1])
			line()
		case c == ':':
			rest(": ")
		case c == '"':
			n = stringEnd(text)
			kind := "string"
			if strings.HasPrefix(strings.TrimLeft(text[n:], blank), ":") {
				kind = "key"
			}
			add(kind, text[:n])
		case c >= 'a' && c <= 'z':
			n = prefix(text, "abcdefghijklmnopqrstuvwxyz")
			add("word", text[:n])
		default:
			n = max(1, prefix(text, "-+.eE0123456789"))
			add("number", text[:n])
		}
		text = text[n:]
	}
	cut = cut || text != ""
	add("", "")
	return tokens, cut
}

// blank is what may be between the parts of JSON.
const blank = " \t\r\n"

// stringEnd is how long the JSON string is that text begins with.
func stringEnd(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// prefix is how many bytes at the beginning of text are of a set.
func prefix(text, set string) int {
	return len(text) - len(strings.TrimLeft(text, set))
}
