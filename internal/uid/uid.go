// Package uid makes the UIDs of events: UUIDs of version 7 (RFC 9562, section 6.2, method 3) that follow from the tag of an outbox and
// the id and time of an event. Function outbox.uid of the schema makes the same ones.
package uid

import (
	"encoding/binary"
	"encoding/hex"
)

// The bits of a UID, from the left: 48 of milliseconds since 1970, 4 of the version, 12 of the fraction of the millisecond, 2 of the
// variant, 16 of the tag and 46 of the id. A fraction has 1,000 microseconds and 4,096 values, so each microsecond has one of its own.
const (
	version = 7 << 12
	variant = 1 << 63

	idBits = 46
	idMask = 1<<idBits - 1

	fractions = 1 << 12
)

// Len is how long the text of a UID is.
const Len = 36

// Append appends the text of the UID of an event that was published so many microseconds after the beginning of 1970, and before the year
// 10000.
func Append(text []byte, tag uint16, id, micros int64) []byte {
	var b [16]byte
	millis, rest := uint64(micros)/1000, uint64(micros)%1000
	binary.BigEndian.PutUint64(b[:8], millis<<16|version|rest*fractions/1000)
	binary.BigEndian.PutUint64(b[8:], variant|uint64(tag)<<idBits|uint64(id)&idMask)
	const digits = "0123456789abcdef"
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = append(text, digits[c>>4], digits[c&15])
	}
	return text
}

// Make returns the text that Append appends.
func Make(tag uint16, id, micros int64) string {
	return string(Append(make([]byte, 0, Len), tag, id, micros))
}

// ID returns the id in the text of a UID, and reports whether the text is one that Append makes for some event.
func ID(text string) (id int64, ok bool) {
	if len(text) != Len {
		return 0, false
	}
	var b [16]byte
	at := 0
	for i, n := range [...]int{4, 2, 2, 2, 6} {
		if i > 0 {
			if text[0] != '-' {
				return 0, false
			}
			text = text[1:]
		}
		if _, err := hex.Decode(b[at:at+n], []byte(text[:2*n])); err != nil {
			return 0, false
		}
		text = text[2*n:]
		at += n
	}
	rest := binary.BigEndian.Uint64(b[8:])
	if b[6]>>4 != version>>12 || rest>>62 != variant>>62 {
		return 0, false
	}
	return int64(rest & idMask), true
}
