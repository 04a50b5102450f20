package plain

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable reports whether a text can be shown as it is.
func Printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unprintable)
}

func unprintable(r rune) bool { return !strconv.IsPrint(r) }

// Quote returns a text as it is if it is printable, and quoted as in Go otherwise.
func Quote(text string) string {
	if Printable(text) {
		return text
	}
	return strconv.Quote(text)
}

// Line returns a text with a space for each run of characters that are not printable, line ends and tabs among them.
func Line(text string) string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), unprintable), " ")
}

// The ends of lines, as browsers and terminals know them.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// Block returns a text whose lines end with \n, whatever they ended with, and that has U+FFFD for other characters that are not
// printable. Tabs and joiners, which emojis and some scripts need, disturb nothing and stay, other spaces become one.
func Block(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\u200C', r == '\u200D', strconv.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return utf8.RuneError
	}, lineEnds.Replace(strings.ToValidUTF8(text, "\uFFFD")))
}

// Clip returns the beginning of a text that has more than so many characters, and an ellipsis for the last of them.
func Clip(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:max(0, most-1)]) + "…"
}
