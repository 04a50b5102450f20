package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// evidenceOfTen is made up: ten committed events of one key, all handled as they should be by every subscription.
func evidenceOfTen() *evidence {
	l := &ledger{}
	key := l.addKey("k")
	e := &evidence{log: map[int64]bool{}}
	for s := range e.kept {
		e.kept[s] = map[int64]string{}
	}
	joined := now()
	for range 10 {
		t := l.begin()
		for _, n := range t.plan(planned{key: key, topic: placed}) {
			e.log[n] = true
			for s := range subscriptions {
				w := succeeded
				switch {
				case !subscriptions[s].wants(placed):
					continue
				case subscriptions[s].inTx():
					w = called
					e.effects[s] = append(e.effects[s], n)
				}
				e.reports = append(e.reports, report{began: now(), at: now(), number: n, process: 1, subscription: uint8(s), what: w})
			}
		}
		t.end(committed)
	}
	one := session{process: 1, from: joined}
	for s := range one.settled {
		one.settled[s] = now()
	}
	e.sessions = append(e.sessions, one)
	e.entries = l.entries
	return e
}

// counts are those of a verdict.
type counts struct{ lost, phantom, duplicates, orderViolations, mismatches int }

var fine = circumstances{drained: time.Second, drainLimit: 5 * time.Second}

func TestVerdict(t *testing.T) {
	t.Parallel()
	// add has one more report.
	add := func(e *evidence, s int, n int64, w what) {
		e.reports = append(e.reports, report{began: now(), at: now(), number: n, process: 1, subscription: uint8(s), what: w})
	}
	without := func(e *evidence, s int, n int64) {
		e.reports = slices.DeleteFunc(e.reports, func(r report) bool { return int(r.subscription) == s && r.number == n })
	}
	tests := []struct {
		name  string
		spoil func(*evidence, *circumstances)
		says  string // in the failures; empty for a verdict that is passed
		want  counts
	}{
		{name: "nothing is wrong", spoil: func(*evidence, *circumstances) {}},
		{
			name: "a loss", spoil: func(e *evidence, _ *circumstances) { without(e, orders, 4) },
			says: "1 committed events are lost", want: counts{lost: 1},
		},
		{
			name: "a loss of what failed and was never tried again", spoil: func(e *evidence, _ *circumstances) {
				without(e, mail, 4)
				add(e, mail, 4, failed)
			}, says: "1 committed events are lost", want: counts{lost: 1},
		},
		{
			name: "a loss of the log itself", spoil: func(e *evidence, _ *circumstances) { delete(e.log, 4) },
			says: "1 acknowledged events are not in the log",
		},
		{
			name: "not lost, but kept as skipped", spoil: func(e *evidence, _ *circumstances) {
				without(e, flaky, 4)
				e.kept[flaky][4] = "skipped"
			},
		},
		{
			name: "a dead letter whose handler never failed", spoil: func(e *evidence, _ *circumstances) {
				without(e, mail, 4)
				e.kept[mail][4] = "dead"
			}, says: "mail: 1 dead letters",
		},
		{
			name: "a phantom that was rolled back", spoil: func(e *evidence, _ *circumstances) {
				e.entries[9].outcome = rolledBack
				delete(e.log, 10)
				for s := range subscriptions {
					if s != flaky {
						without(e, s, 10)
					}
				}
				e.effects[books] = e.effects[books][:9]
			}, says: "1 events were delivered or logged, and not committed", want: counts{phantom: 1},
		},
		{
			name: "a phantom that nobody published", spoil: func(e *evidence, _ *circumstances) { add(e, mail, 11, failed) },
			says: "1 events were delivered", want: counts{phantom: 1},
		},
		{
			name: "a phantom in the log", spoil: func(e *evidence, _ *circumstances) { e.log[11] = true },
			says: "1 events were delivered or logged", want: counts{phantom: 1},
		},
		{
			name: "an event of a topic that was not asked for", spoil: func(e *evidence, _ *circumstances) {
				e.entries[9].topic = stock // which orders does not see
			}, says: "1 events were delivered", want: counts{phantom: 1},
		},
		{
			name: "an unknown outcome that was a commit, and is lost", spoil: func(e *evidence, _ *circumstances) {
				e.entries[9].outcome = unknown
				without(e, mail, 10)
			}, says: "1 committed events are lost", want: counts{lost: 1},
		},
		{
			name: "an unknown outcome that was none", spoil: func(e *evidence, _ *circumstances) {
				e.entries[9].outcome = unknown
				delete(e.log, 10)
				for s := range subscriptions {
					without(e, s, 10)
				}
				e.effects[books] = e.effects[books][:9]
			},
		},
		{
			name: "a duplicate without a reason", spoil: func(e *evidence, _ *circumstances) {
				add(e, mail, 10, succeeded)
				e.sessions[0].settled[mail] = now()
			}, says: "mail: 1 duplicates, and at most 0", want: counts{duplicates: 1},
		},
		{
			name: "a duplicate of what was not recorded", spoil: func(e *evidence, _ *circumstances) {
				var last report
				for _, r := range e.reports {
					if r.subscription == mail {
						last = r
					}
				}
				e.sessions[0].settled[mail] = last.at - 1
				e.reports = append(e.reports, report{began: now(), at: now(), number: last.number, process: 2, what: succeeded})
				e.sessions = append(e.sessions, session{process: 2, from: last.at, settled: [len(subscriptions)]time.Duration{mail: now()}})
			}, want: counts{duplicates: 1},
		},
		{
			name: "an order violation", spoil: func(e *evidence, _ *circumstances) {
				without(e, orders, 4)
				add(e, orders, 4, succeeded)
			}, says: "6 events were handled before an earlier one", want: counts{orderViolations: 6},
		},
		{
			name: "a repeat of an older event is none", spoil: func(e *evidence, _ *circumstances) {
				add(e, orders, 4, succeeded)
				e.sessions = nil
			}, want: counts{duplicates: 1},
		},
		{
			name: "another order than that of concurrent transactions is none", spoil: func(e *evidence, _ *circumstances) {
				e.entries[3].outcome = unknown // nobody knew of its commit when the next was published
				without(e, orders, 4)
				add(e, orders, 4, succeeded)
			},
		},
		{
			name: "going on after a dead letter is none", spoil: func(e *evidence, _ *circumstances) {
				without(e, flaky, 4)
				e.kept[flaky][4] = "dead"
				e.entries[3].act = fail
			},
		},
		{
			name: "effects in the wrong order", spoil: func(e *evidence, _ *circumstances) {
				e.effects[books][3], e.effects[books][4] = e.effects[books][4], e.effects[books][3]
			}, says: "1 events were handled before an earlier one", want: counts{orderViolations: 1},
		},
		{
			name: "an effect that is missing", spoil: func(e *evidence, _ *circumstances) { e.effects[books] = e.effects[books][:9] },
			says: "1 effects", want: counts{mismatches: 1, lost: 1},
		},
		{
			name: "an effect that counts twice", spoil: func(e *evidence, _ *circumstances) { e.effects[books] = append(e.effects[books], 10) },
			says: "1 effects", want: counts{mismatches: 1},
		},
		{
			name: "an effect of what is dead", spoil: func(e *evidence, _ *circumstances) { e.kept[books][4] = "skipped" },
			says: "1 effects", want: counts{mismatches: 1},
		},
		{
			name: "nothing was committed", spoil: func(e *evidence, _ *circumstances) { *e = evidence{} },
			says: "proves nothing",
		},
		{
			name: "it takes too long", spoil: func(_ *evidence, c *circumstances) { c.drained = 6 * time.Second },
			says: "later than 5s",
		},
		{
			name: "it never ends", spoil: func(_ *evidence, c *circumstances) { c.drained = 0 },
			says: "did not come back",
		},
		{
			name: "a process crashed", spoil: func(_ *evidence, c *circumstances) { c.failures = []string{"worker process 3 ended"} },
			says: "worker process 3",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := evidenceOfTen()
			c := fine
			test.spoil(e, &c)
			v := reach(*e, c)
			if all := strings.Join(v.Failures, "; "); !strings.Contains(all, test.says) || (test.says == "") != (v.Verdict == "passed") {
				t.Errorf("%s because of %q, want %q", v.Verdict, all, test.says)
			}
			got := counts{v.Lost, v.Phantom, v.Duplicates, v.OrderViolations, v.Mismatches}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			got.duplicates = 0
			if got != (counts{}) && len(v.problems) == 0 {
				t.Error("no event has a history to tell")
			}
		})
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	e := evidenceOfTen()
	for i := range e.reports {
		if r := &e.reports[i]; r.number == 7 && r.subscription == orders {
			r.began += 3 * time.Second
		}
	}
	waits := e.entries[6].ended
	e.faults = []injected{
		{"over for long", waits - time.Minute, waits - 50*time.Second},
		{"before", waits - 2*time.Second, waits - time.Second},
		{"during", waits + time.Second, waits + time.Minute},
		{"after", waits + 4*time.Second, waits + 5*time.Second},
	}
	v := reach(*e, fine)
	if v.LongestStallMS < 2900 || v.LongestStallMS > 3500 || v.LongestStallIn != "orders" || v.LongestStallHit != "before + during" {
		t.Errorf("stalled %d ms in %s, after %s", v.LongestStallMS, v.LongestStallIn, v.LongestStallHit)
	}
}

// TestSilentStall: what a silent connection alone may hold up is bounded.
func TestSilentStall(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		waits  time.Duration
		other  string // another fault
		stalls int
	}{{14 * time.Second, "", 0}, {16 * time.Second, "", 1}, {16 * time.Second, "server killed", 0}} {
		e := evidenceOfTen()
		e.lease = 10 * time.Second
		at := e.entries[6].ended
		for i := range e.reports {
			if r := &e.reports[i]; r.number == 7 && r.subscription == orders {
				r.began = at + test.waits
			}
		}
		e.faults = []injected{{silentConnection, at, at + 15*time.Second}}
		if test.other != "" {
			e.faults = append(e.faults, injected{test.other, at, at + time.Second})
		}
		if v := reach(*e, fine); v.SilentStalls != test.stalls || (v.Verdict == "passed") != (test.stalls == 0) {
			t.Errorf("%+v: %d stalls, %s: %v", test, v.SilentStalls, v.Verdict, v.Failures)
		}
	}
}

// TestBurdenStall: what other keys alone may hold up is bounded.
func TestBurdenStall(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		waits  time.Duration
		act    act
		kinds  []string
		stalls int
	}{
		{3 * time.Second, succeed, []string{hotKey}, 0},
		{5 * time.Second, succeed, []string{hotKey}, 1},
		{5 * time.Second, succeed, []string{lateGiant}, 1},
		{5 * time.Second, succeed, []string{deadEndpoint}, 1},
		{5 * time.Second, laborious, []string{hotKey}, 0},
		{5 * time.Second, succeed, []string{hotKey, "worker killed"}, 0},
		{5 * time.Second, succeed, []string{"outage"}, 0},
	} {
		e := evidenceOfTen()
		e.entries[6].act = test.act
		at := e.entries[6].ended
		for i := range e.reports {
			if r := &e.reports[i]; r.number == 7 && r.subscription == orders {
				r.began = at + test.waits
			}
		}
		e.faults = nil
		for _, kind := range test.kinds {
			e.faults = append(e.faults, injected{kind, at, at + test.waits})
		}
		if v := reach(*e, fine); v.BurdenStalls != test.stalls || (v.Verdict == "passed") != (test.stalls == 0) {
			t.Errorf("%+v: %d stalls, %s: %v", test, v.BurdenStalls, v.Verdict, v.Failures)
		}
	}
}
