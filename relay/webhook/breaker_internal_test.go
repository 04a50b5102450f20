package webhook

import (
	"strconv"
	"testing"
	"time"
)

func TestBreakerOpens(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var b breaker
	for range 100 { // one message that fails for ever is its own fault
		if b.fail("poison", false, now) || b.open() {
			t.Fatal("one message opens it")
		}
	}
	b.succeed(false, 8, now)
	for i := range downAfter {
		if opens := b.fail(strconv.Itoa(i), false, now); opens != (i == downAfter-1) {
			t.Errorf("failure %d: opens %v", i+1, opens)
		}
	}
	var reached breaker
	if !reached.trip(false, now) || !reached.open() {
		t.Error("an endpoint that cannot be reached does not open it")
	}
}

func TestBreakerProbes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var b breaker
	b.trip(false, now)
	want := probeSoon
	for range 10 {
		if got := b.next.Sub(now); got != want {
			t.Fatalf("next probe after %v, want %v", got, want)
		}
		b.trip(false, now) // what began before it opened says nothing
		now = b.next
		b.trip(true, now)
		b.trip(true, now) // nor another one of the same round
		want = min(probeRest, 2*want)
	}
	if want != probeRest {
		t.Errorf("at the end, it probes each %v", want)
	}
	now = b.next
	for _, room := range []int{2, 4, 8} {
		if b.succeed(true, 8, now) || b.room != room {
			t.Fatalf("room is %d, want %d", b.room, room)
		}
	}
	if b.succeed(false, 8, now) || !b.open() {
		t.Error("what began before it opened closes it")
	}
	if !b.succeed(true, 8, now) || b.open() {
		t.Error("it does not close")
	}
}

func TestBackGrows(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var b breaker
	b.trip(false, now)
	for _, after := range []time.Duration{0, time.Second, 10 * time.Second, time.Hour} {
		want := max(0, b.next.Sub(now.Add(after)), min(backMost, after/2))
		if least, most := b.back(now.Add(after)); least != want || most != min(returnMost, max(backMost, after/2)) {
			t.Errorf("down for %v: comes back after %v to %v", after, least, most)
		}
	}
	if got := b.probes(now); got != probeSoon {
		t.Errorf("a probe comes back after %v", got)
	}
}

// TestReturnsAreSpaced has a hundred thousand messages wait for an endpoint that has been down for an hour: in each second, few come back.
func TestReturnsAreSpaced(t *testing.T) {
	t.Parallel()
	start := time.Now()
	q := &queue{target: &target{name: "a"}, breaker: breaker{since: start.Add(-time.Hour), next: start.Add(time.Second), pause: probeRest}}
	const all, most = 100_000, 200 // in a second: all of them in half an hour would be 56
	bySecond := map[int]int{}
	for range all {
		after := q.away(start)
		if after < backMost || after > returnMost {
			t.Fatalf("one comes back after %v", after)
		}
		bySecond[int(after/time.Second)]++
	}
	for second, n := range bySecond {
		if n > most {
			t.Errorf("in second %d, %d come back", second, n)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "17": 17 * time.Second, " 17 ": 17 * time.Second, "-1": 0, "1.5": 0, "soon": 0,
		"3601": time.Hour, "18446744073709551616": time.Hour, "9223372036854775807": time.Hour,
		"Sun, 01 Mar 2026 12:00:30 GMT":  30 * time.Second,
		"Sunday, 01-Mar-26 12:00:30 GMT": 30 * time.Second,
		"Sun, 01 Mar 2026 11:00:00 GMT":  0,
		"Sun, 01 Mar 2027 12:00:00 GMT":  time.Hour,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestShown(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"acme": `"acme"`, "a\nb": `"a\nb"`, "https://hooks.example/services/T0/secret?token=x": "https://hooks.example",
	} {
		if got := shown(name); got != want {
			t.Errorf("%q is shown as %s, want %s", name, got, want)
		}
	}
}
