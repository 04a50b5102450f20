package webhook

import (
	"testing"
	"time"
)

// TestFileIsReadWhole looks at a file while it is written: only what has stayed the same for two looks is read, once.
func TestFileIsReadWhole(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	at := func(ms int, raw string) version {
		return version{at: begun.Add(time.Duration(ms) * time.Millisecond), raw: raw}
	}
	old, gone := at(0, "a b"), version{err: "no such file"}
	c := changes{seen: old, last: old}
	for i, look := range []struct {
		now  version
		read bool
	}{
		{old, false},
		{at(10, ""), false},    // begun anew
		{at(20, "a"), false},   // half of it
		{at(30, "a"), false},   // something was written that is yet to be seen
		{at(40, "a c"), false}, // all of it
		{at(40, "a c"), true},
		{at(40, "a c"), false},
		{gone, false}, // between two that are renamed
		{at(50, "d"), false},
		{at(50, "d"), true},
		{gone, false},
		{gone, true},
		{at(50, "d"), false}, // the same as before it was gone
		{at(50, "d"), true},
	} {
		if got := c.changed(look.now); got != look.read {
			t.Errorf("look %d: read %v", i, got)
		}
	}
}
