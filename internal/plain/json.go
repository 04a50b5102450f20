package plain

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON returns the same JSON with escapes for characters in its strings that are not printable. Everywhere else JSON has no such
// character but white space, which stays.
func JSON(raw []byte) []byte {
	shown, from := []byte(nil), 0
	for i := 0; i < len(raw); {
		r, size := utf8.DecodeRune(raw[i:])
		switch {
		case r < 0x7f, strconv.IsPrint(r) && (r != utf8.RuneError || size > 1):
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			shown = fmt.Appendf(append(shown, raw[from:i]...), `\u%04x\u%04x`, high, low)
			from = i + size
		default: // also a byte that is not UTF-8, which decoders take for U+FFFD
			shown = fmt.Appendf(append(shown, raw[from:i]...), `\u%04x`, r)
			from = i + size
		}
		i += size
	}
	if from == 0 {
		return raw
	}
	return append(shown, raw[from:]...)
}
