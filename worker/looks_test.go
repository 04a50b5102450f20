package worker

import (
	"cmp"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// TestLooksFitting has refills on a server that needs so long for each event: they come to take about refillTime, and stay within bounds.
func TestLooksFitting(t *testing.T) {
	t.Parallel()
	for each, want := range map[time.Duration]int{
		time.Nanosecond:        refillLooks,
		2 * time.Microsecond:   int(refillTime / (2 * time.Microsecond)),
		3500 * time.Nanosecond: int(refillTime / (3500 * time.Nanosecond)),
		time.Millisecond:       refillLeast,
	} {
		for _, first := range []int{refillLeast, refillLooks} {
			looks := first
			for range 10 {
				looks = looksFitting(looks, time.Duration(looks)*each)
			}
			if looks < want-1 || looks > want+1 {
				t.Errorf("%v an event, from %d: it looks at %d, want %d", each, first, looks, want)
			}
		}
	}
	if looks := looksFitting(1000, 0); looks != 2000 {
		t.Errorf("after a moment in which next to nothing was to look at, it looks at %d, want 2000", looks)
	}
}

// TestRefilledTogether has keys of two lanes held, one of which is short: those of its lane that have room are filled up with it.
func TestRefilledTogether(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := newBacklog()
	for _, l := range []engine.Line{
		{Key: "short", Count: refillBelow - 1, From: 1001},
		{Key: "none", Count: 0},
		{Key: "some", Count: refillBelow},
		{Key: "nearly", Count: refillWith - 1, From: 5000},
		{Key: "enough", Count: refillWith},
		{Key: "full", Count: holdAbove},
		{Key: "far behind", Count: refillBelow, From: 999}, // the walk would begin there
		{Lane: 1, Key: "other lane", Count: refillBelow},
	} {
		if l.From == 0 {
			l.From = 1000
		}
		b.load([]engine.Line{l})
	}
	b.load([]engine.Line{{Key: "not held", Count: 1}})
	if lanes := b.shortLanes(0); !slices.Equal(lanes, []int16{0}) {
		t.Fatalf("lanes %v have short lines, want 0", lanes)
	}
	wants := b.wants(0, now)
	slices.SortFunc(wants, func(a, b engine.Want) int { return cmp.Compare(b.Rows, a.Rows) })
	want := []engine.Want{
		{Key: "none", Rows: holdAbove},
		{Key: "short", Rows: holdAbove - refillBelow + 1},
		{Key: "some", Rows: holdAbove - refillBelow},
		{Key: "nearly", Rows: holdAbove - refillWith + 1},
	}
	if !slices.Equal(wants, want) {
		t.Errorf("it wants %v, want %v", wants, want)
	}
	for _, w := range wants {
		b.refilled(lineID{key: w.Key}, engine.Refill{Key: w.Key, Rows: w.Rows, From: 2000}, now)
	}
	if left := b.roomy[0]; len(b.short) > 0 || len(left) != 1 || left[lineID{key: "far behind"}] == nil {
		t.Errorf("%d are short, and %v have room, when all others are full", len(b.short), slices.Collect(maps.Keys(left)))
	}
	// One that has a long way to go, and is worked off as fast as it is filled, does not have all the walks.
	for range 3 {
		b.load([]engine.Line{{Lane: 2, Key: "behind", Count: 1, From: 1}, {Lane: 2, Key: "ahead", Count: 1, From: 1_000_000}})
		if wants := b.wants(2, now); len(wants) != 2 {
			t.Errorf("the first walk is for %v, want both", wants)
		}
		b.refilled(lineID{lane: 2, key: "behind"}, engine.Refill{Key: "behind", Rows: holdAbove, From: 500}, now.Add(1))
		b.done(lineID{lane: 2, key: "behind"}, holdAbove)
		if wants := b.wants(2, now.Add(2)); len(wants) != 1 || wants[0].Key != "ahead" {
			t.Errorf("the second walk is for %v, want the one ahead", wants)
		}
		b.refilled(lineID{lane: 2, key: "ahead"}, engine.Refill{Key: "ahead", Rows: 1, From: 1_000_500}, now.Add(3))
		if wants := b.wants(2, now.Add(4)); len(wants) != 2 {
			t.Errorf("the third walk is for %v, want both", wants)
		}
		b.forget([]int16{2})
	}
	b.done(lineID{key: "full"}, holdAbove-refillWith+1)
	if lanes := b.shortLanes(0); len(lanes) > 0 || len(b.roomy[0]) != 2 {
		t.Errorf("lanes %v are short, %d keys have room, want no lane and two keys", lanes, len(b.roomy[0]))
	}
	for _, lane := range []int16{3, 5, 63} {
		b.load([]engine.Line{{Lane: lane, Key: "short", Count: 1, From: 1}})
	}
	for after, want := range map[int16][]int16{0: {3, 5, 63}, 3: {5, 63, 3}, 4: {5, 63, 3}, 63: {3, 5, 63}} {
		if lanes := b.shortLanes(after); !slices.Equal(lanes, want) {
			t.Errorf("after lane %d come %v, want %v", after, lanes, want)
		}
	}
	b.forget([]int16{0})
	if len(b.roomy[0]) > 0 {
		t.Error("a lane that was released has keys with room")
	}
}
