// Package storable says what PostgreSQL can store as text and as jsonb.
package storable

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Text reports whether a text column can hold s.
func Text(s string) bool {
	return utf8.ValidString(s) && bytes.IndexByte([]byte(s), 0) < 0
}

// ValidJSON reports whether raw is JSON text, which is UTF-8.
func ValidJSON(raw []byte) bool { return json.Valid(raw) && utf8.Valid(raw) }

// JSON reports whether raw is JSON that a jsonb value can hold.
func JSON(raw []byte) bool { return ValidJSON(raw) && Escapes(raw) }

// Escapes reports whether a jsonb value can hold the valid JSON text raw: \u0000 and lone surrogates are
// legal JSON and illegal there.
func Escapes(raw []byte) bool {
	expectLow := false
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			if expectLow {
				return false
			}
			continue
		}
		i++ // raw is valid JSON: a character follows
		if raw[i] != 'u' {
			if expectLow {
				return false
			}
			continue
		}
		code := 0
		for _, c := range raw[i+1 : i+5] {
			code = code<<4 | hexDigit(c)
		}
		i += 4
		low := code >= 0xDC00 && code <= 0xDFFF
		if code == 0 || low != expectLow {
			return false
		}
		expectLow = code >= 0xD800 && code <= 0xDBFF
	}
	return true
}

func hexDigit(c byte) int {
	switch {
	case c <= '9':
		return int(c - '0')
	case c <= 'F':
		return int(c-'A') + 10
	default:
		return int(c-'a') + 10
	}
}
