package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A fault is one of a schedule: when it begins, how long it lasts, and whatever else there is to choose.
type fault struct {
	kind   *kind
	at     time.Duration // since the beginning
	length time.Duration
	pick   uint64 // which worker, which way to end; see choose
}

func (f fault) String() string {
	return fmt.Sprintf("%6.1fs %s for %v", f.at.Seconds(), f.kind.name, f.length.Round(time.Millisecond))
}

// choose returns a number below n. A fault that needs several divides what is left.
func (f *fault) choose(n int) int {
	chosen := int(f.pick % uint64(n))
	f.pick /= uint64(n)
	return chosen
}

// A kind of fault.
type kind struct {
	name      string
	least     time.Duration // how long one lasts
	most      time.Duration
	pastLease bool // least and most are on top of the lease
	run       func(context.Context, *world, *fault) error
}

func kindNames() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// settling is how long the schedule waits after a fault that comes alone: long enough that what follows from it is its own.
const settling = 3 * time.Second

// schedule plans faults for a run, the same ones for the same seed, duration and lease. First each kind comes alone, in any order, as far
// as half of the time goes. Then they come as they may, up to three at once. All end within the duration; one is last, alone.
//
// With the name of a kind, only faults of that kind come, one after the other.
func schedule(seed uint64, duration, lease time.Duration, only string) []fault {
	dice := rand.New(rand.NewPCG(seed, 0x5ced))
	draw := func(k *kind) fault {
		least, most := k.least, k.most
		if k.pastLease {
			least, most = least+lease, most+lease
		}
		length := least
		if most > least {
			length += time.Duration(dice.Int64N(int64(most - least)))
		}
		return fault{kind: k, length: length.Round(10 * time.Millisecond), pick: dice.Uint64()}
	}
	// One that takes too much of a short run is left out.
	var possible []*kind
	for i := range kinds {
		k := &kinds[i]
		longest := k.most
		if k.pastLease {
			longest += lease
		}
		if only != "" && k.name != only {
			continue
		}
		if longest <= duration/3 {
			possible = append(possible, k)
		}
	}
	if only != "" {
		return alone(draw, possible, duration)
	}
	last := draw(possible[dice.IntN(len(possible))])
	last.at = duration - last.length

	var plan []fault
	at := time.Second
	order := slices.Clone(possible)
	dice.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, k := range order {
		f := draw(k)
		f.at = at
		if next := at + f.length + settling; next <= duration/2 {
			plan, at = append(plan, f), next
		}
	}
	for {
		for range 1 + dice.IntN(3) {
			f := draw(possible[dice.IntN(len(possible))])
			f.at = at + time.Duration(dice.Int64N(int64(time.Second)))
			if f.at+f.length < last.at {
				plan = append(plan, f)
			}
		}
		at += time.Second + time.Duration(dice.Int64N(int64(5*time.Second)))
		if at >= last.at {
			break
		}
	}
	slices.SortStableFunc(plan, func(a, b fault) int { return int(a.at - b.at) })
	return append(plan, last)
}

// alone plans faults of one kind, one after the other.
func alone(draw func(*kind) fault, kinds []*kind, duration time.Duration) (plan []fault) {
	if len(kinds) == 0 {
		return nil
	}
	for at := time.Second; ; {
		f := draw(kinds[0])
		if f.at = at; at+f.length > duration {
			return plan
		}
		plan, at = append(plan, f), at+f.length+settling
	}
}
