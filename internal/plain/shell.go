package plain

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Shell returns a word as bash, zsh and ksh take it, quoted if that is necessary.
func Shell(word string) string {
	ordinary := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:/@%+,=", r)
	}
	switch {
	case word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !ordinary(r) }):
		return word
	case Printable(word):
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := 0; i < len(word); {
		r, size := utf8.DecodeRuneInString(word[i:])
		switch {
		case r == '\'' || r == '\\':
			b.WriteString(`\` + string(r))
		case strconv.IsPrint(r) && (r != utf8.RuneError || size > 1):
			b.WriteRune(r)
		default:
			for _, c := range []byte(word[i : i+size]) {
				fmt.Fprintf(&b, `\%03o`, c) // unlike \x, it ends by itself
			}
		}
		i += size
	}
	b.WriteString("'")
	return b.String()
}
