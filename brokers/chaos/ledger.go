package main

import (
	"fmt"
	"sync"
)

// An entry is what the ledger knows of an event. Its number, from 1, is in the payload.
type entry struct {
	id         string // the UID
	key        string // may be empty
	committed  bool   // else rolled back
	poison     bool   // too large for the broker
	inDatabase int64  // the event's id there
}

// A ledger is kept by the publishers. Those of a key are entered in the order in which they were committed. Safe for concurrent use.
type ledger struct {
	mu        sync.Mutex
	entries   []entry // of event number n at n-1
	committed int
}

// plan reserves numbers for events that are about to be published, and returns the first.
func (l *ledger) plan(n int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := int64(len(l.entries)) + 1
	l.entries = append(l.entries, make([]entry, n)...)
	return first
}

// enter notes what became of events.
func (l *ledger) enter(first int64, entries []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range entries {
		l.entries[first-1+int64(i)] = e
		if e.committed {
			l.committed++
		}
	}
}

func (l *ledger) tally() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d events committed", l.committed)
}
