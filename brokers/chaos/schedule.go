package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// A kind of fault.
type kind struct {
	name      string
	least     time.Duration // how long one lasts
	most      time.Duration
	pastLease bool // least and most are on top of the lease
	run       func(ctx context.Context, w *world, f *fault) error
}

// A fault is one of a schedule.
type fault struct {
	kind   kind
	at     time.Duration // since the beginning
	length time.Duration
	pick   int // which relay
}

func kindNames(list []kind) (names []string) {
	for _, k := range list {
		names = append(names, k.name)
	}
	return names
}

const (
	calm     = 3 * time.Second // without a fault, in the beginning: nothing may fail
	settling = 2 * time.Second // after a fault that comes alone
)

// schedule plans faults, the same ones for the same seed and length. First each kind comes alone, in any order, as far as half of the time
// goes; then they come as they may, two at once. All end in time. With the name of a kind, only faults of that kind come, one after the other.
func schedule(list []kind, seed uint64, length, lease time.Duration, only string) (plan []fault) {
	dice := rand.New(rand.NewPCG(seed, 0xb10c))
	draw := func(k kind, at time.Duration) fault {
		least, most := k.least, k.most
		if k.pastLease {
			least, most = least+lease, most+lease
		}
		lasts := least + time.Duration(dice.Int64N(int64(most-least)+1))
		return fault{kind: k, at: at, length: lasts.Round(10 * time.Millisecond), pick: dice.IntN(relays)}
	}
	order := slices.Clone(list)
	if only != "" {
		order = slices.DeleteFunc(order, func(k kind) bool { return k.name != only })
	}
	dice.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	at := calm
	alone := length / 2
	if only != "" {
		alone = length
	}
	for i := 0; i < len(order) || only != ""; i++ {
		f := draw(order[i%len(order)], at)
		if f.at+f.length > alone {
			break
		}
		plan, at = append(plan, f), at+f.length+settling
	}
	if only != "" {
		return plan
	}
	for at < length {
		for range 1 + dice.IntN(2) {
			f := draw(order[dice.IntN(len(order))], at+time.Duration(dice.Int64N(int64(time.Second))))
			if f.at+f.length <= length {
				plan = append(plan, f)
			}
		}
		at += 2*time.Second + time.Duration(dice.Int64N(int64(4*time.Second)))
	}
	slices.SortStableFunc(plan, func(a, b fault) int { return int(a.at - b.at) })
	return plan
}
