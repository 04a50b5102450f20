package main

import (
	"fmt"
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	t.Parallel()
	texts := func(plan []fault) (list []string) {
		for _, f := range plan {
			list = append(list, fmt.Sprint(f, f.pick))
		}
		return list
	}
	for _, length := range []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute} {
		for seed := range uint64(50) {
			plan := schedule(seed, length, 10*time.Second, "")
			if again := schedule(seed, length, 10*time.Second, ""); fmt.Sprint(texts(again)) != fmt.Sprint(texts(plan)) {
				t.Fatalf("seed %d gives two schedules", seed)
			}
			if other := schedule(seed+1, length, 10*time.Second, ""); fmt.Sprint(texts(other)) == fmt.Sprint(texts(plan)) {
				t.Errorf("seeds %d and %d give the same schedule", seed, seed+1)
			}
			seen := map[string]bool{}
			for i, f := range plan {
				seen[f.kind.name] = true
				if f.at < 0 || f.at+f.length > length || i > 0 && f.at < plan[i-1].at {
					t.Errorf("seed %d: fault %d is %v", seed, i, f)
				}
			}
			if length == 10*time.Minute && len(seen) != len(kinds) {
				t.Errorf("seed %d has %d of %d kinds", seed, len(seen), len(kinds))
			}
			if len(plan) < 2 {
				t.Errorf("seed %d has %d faults in %v", seed, len(plan), length)
			}
		}
	}
}

func TestScheduleOfOneKind(t *testing.T) {
	t.Parallel()
	plan := schedule(7, 5*time.Minute, 10*time.Second, silentConnection)
	if len(plan) < 10 {
		t.Errorf("%d faults in five minutes", len(plan))
	}
	for i, f := range plan {
		if f.kind.name != silentConnection || i > 0 && f.at < plan[i-1].at+plan[i-1].length+settling || f.at+f.length > 5*time.Minute {
			t.Errorf("fault %d is %v", i, f)
		}
	}
}
