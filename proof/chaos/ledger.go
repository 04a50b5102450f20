package main

import (
	"fmt"
	"sync"
	"time"
)

// An outcome is what the publisher knows of a transaction.
type outcome uint8

const (
	open       outcome = iota // not ended; the harness was stopped in between
	committed                 // the commit was acknowledged
	unknown                   // the commit was asked for, and no answer came
	rolledBack                // on purpose, by an error, or never asked to commit
)

func (o outcome) String() string {
	return [...]string{"open", "committed", "unknown", "rolled back"}[o]
}

// noKey stands for the key of an event without one.
const noKey = -1

// An entry is what the ledger knows of an event. Its number, from 1, is in the payload.
type entry struct {
	transaction int32
	key         int32 // noKey or an index of ledger.keys
	seq         int32 // place among those of its key, in the order in which they were published
	topic       topic
	act         act
	outcome     outcome
	began       time.Duration // when its transaction began
	ended       time.Duration // when the outcome was known
}

// A ledger is kept by the publishers, outside of the database, in this process, which nothing kills. Safe for concurrent
// use.
type ledger struct {
	mu           sync.Mutex
	entries      []entry // of event number n at n-1
	keys         []string
	last         []int32 // by key: the last seq
	transactions int32
	counts       [rolledBack + 1]int // events by outcome
}

// addKey makes a key, for one publisher alone: it publishes one transaction after the other, so that those that it knows to
// be committed come before all that follow.
func (l *ledger) addKey(name string) int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys, l.last = append(l.keys, name), append(l.last, 0)
	return int32(len(l.keys) - 1)
}

// A planned is an event that a publisher is about to publish.
type planned struct {
	key   int32
	topic topic
	act   act
}

// A transaction is one of a publisher.
type transaction struct {
	ledger *ledger
	number int32
	began  time.Duration
	events []int64 // their numbers
}

func (l *ledger) begin() *transaction {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.transactions++
	return &transaction{ledger: l, number: l.transactions, began: now()}
}

// plan enters events before anything of them is sent, and returns their numbers.
func (t *transaction) plan(events ...planned) []int64 {
	l := t.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	numbers := make([]int64, len(events))
	for i, p := range events {
		e := entry{transaction: t.number, key: p.key, topic: p.topic, act: p.act, began: t.began}
		if p.key != noKey {
			l.last[p.key]++
			e.seq = l.last[p.key]
		}
		l.entries = append(l.entries, e)
		numbers[i] = int64(len(l.entries))
	}
	l.counts[open] += len(events)
	t.events = append(t.events, numbers...)
	return numbers
}

// undo notes that events were rolled back to a savepoint, whatever becomes of the transaction.
func (t *transaction) undo(numbers []int64) {
	t.ledger.settle(numbers, rolledBack)
}

// end notes what became of the transaction.
func (t *transaction) end(o outcome) { t.ledger.settle(t.events, o) }

func (l *ledger) settle(numbers []int64, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := now()
	for _, n := range numbers {
		e := &l.entries[n-1]
		if e.outcome != open {
			continue // undone before
		}
		e.outcome, e.ended = o, at
		l.counts[open]--
		l.counts[o]++
	}
}

// tally says how many events there are of each outcome.
func (l *ledger) tally() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d committed, %d unknown, %d rolled back", l.counts[committed], l.counts[unknown], l.counts[rolledBack])
}

func (l *ledger) keyName(key int32) string {
	if key == noKey {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys[key]
}
