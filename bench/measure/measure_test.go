package measure

import (
	"os"
	"testing"
	"time"
)

func TestLatencies(t *testing.T) {
	t.Parallel()
	l := NewLatencies()
	for ms := 1; ms <= 1000; ms++ {
		l.Add(time.Duration(ms) * time.Millisecond)
	}
	for percentile, want := range map[float64]float64{50: 500, 99: 990, 99.9: 999, 100: 1000} {
		if got := l.Milliseconds(percentile); got < 0.998*want || got > 1.002*want {
			t.Errorf("p%v is %v ms, want %v", percentile, got, want)
		}
	}
	l.Add(-time.Second)
	l.Add(time.Hour)
	if n := l.Count(); n != 1002 {
		t.Errorf("%d were counted", n)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	pid, parent, ticks, err := parseStat([]byte("42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 5"))
	if err != nil || pid != 42 || parent != 7 || ticks != 124 {
		t.Errorf("got %d, %d, %v, %v", pid, parent, ticks, err)
	}
	if _, _, _, err := parseStat([]byte("42 (short) S 7")); err == nil {
		t.Error("a short line was read")
	}
}

// TestLoad burns time, and finds it as our own.
func TestLoad(t *testing.T) {
	l := BeginLoad()
	if l == nil {
		return // there is no /proc here
	}
	sum := 0
	for start := time.Now(); time.Since(start) < 300*time.Millisecond; {
		sum++
	}
	usage, known := l.End()
	if sum == 0 || !known || usage.Ours < 0.1 || usage.Ours > 64 || usage.Other < 0 || usage.Steal < 0 {
		t.Errorf("got %+v, %v", usage, known)
	}
	if peak, err := PeakMemory(os.Getpid()); err != nil || peak < 1 || peak > 10_000 {
		t.Errorf("peak memory is %v MiB, %v", peak, err)
	}
}
