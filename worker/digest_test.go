package worker

import (
	"testing"
	"time"
)

func TestDigest(t *testing.T) {
	t.Parallel()
	var (
		d     digest
		lines [][2]int
		now   = time.Now()
	)
	add := func(n int) { d.add(now, func(others int) { lines = append(lines, [2]int{n, others}) }) }
	expect := func(when string, want ...[2]int) {
		t.Helper()
		if len(lines) != len(want) {
			t.Fatalf("%s: lines %v, want %v", when, lines, want)
		}
		for i := range want {
			if lines[i] != want[i] {
				t.Errorf("%s: line %v, want %v", when, lines[i], want[i])
			}
		}
		lines = nil
	}
	d.flush(now)
	expect("nothing failed")
	for n := range 4 {
		add(n)
	}
	expect("at once", [2]int{0, 0})
	now = now.Add(digestEvery - 1)
	d.flush(now)
	expect("within the second")
	now = now.Add(1)
	d.flush(now)
	expect("when it is over", [2]int{3, 2})
	add(5)
	add(6)
	expect("within the next")
	now = now.Add(digestEvery)
	add(7)
	expect("another one, when that is over", [2]int{7, 2})
	now = now.Add(digestEvery)
	d.flush(now)
	expect("all was told")
}
