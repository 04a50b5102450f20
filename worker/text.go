package worker

import "strings"

// maxErrorBytes is what is kept of an error's text, stack included.
const maxErrorBytes = 8 << 10

// shorten cuts an error's text to what is kept with a delivery, and to what PostgreSQL can keep.
func shorten(text string) string {
	if len(text) > maxErrorBytes {
		text = text[:maxErrorBytes] + " …"
	}
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "�")
}

// firstLine leaves stacks out of the log.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
