package dashboard

import (
	"bytes"
	"encoding/json"
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

// highlight indents JSON and tells its parts apart. It reports whether it was cut off.
func highlight(raw []byte) (tokens []token, cut bool) {
	var indented bytes.Buffer
	if err := json.Indent(&indented, raw, "", "  "); err != nil {
		return []token{{"", string(raw)}}, false // PostgreSQL has checked it
	}
	text := indented.String()
	if cut = len(text) > shownPayload; cut {
		end := shownPayload
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	for text != "" {
		var t token
		switch c := text[0]; {
		case c == '"':
			t = token{"string", text[:stringEnd(text)]}
			if strings.HasPrefix(text[len(t.Text):], ":") {
				t.Kind = "key"
			}
		case c == '-' || c >= '0' && c <= '9':
			t = token{"number", text[:prefix(text, "-+.eE0123456789")]}
		case c >= 'a' && c <= 'z':
			t = token{"word", text[:prefix(text, "abcdefghijklmnopqrstuvwxyz")]}
		default:
			t = token{"", text[:max(1, prefix(text, " \n{}[],:"))]}
		}
		tokens = append(tokens, t)
		text = text[len(t.Text):]
	}
	return tokens, cut
}

// stringEnd is how long the JSON string is that text begins with. It may have been cut off.
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
