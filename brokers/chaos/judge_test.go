package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const second = int64(time.Second)

// innocent is evidence of five events, of which the first three have a key, the fourth is too large, and the fifth was rolled back. The third was
// sent again, since its acknowledgement was lost.
func innocent() evidence {
	e := evidence{firstFault: 10 * second, dead: map[int64]string{104: "too large"}}
	serial := int64(0)
	send := func(number int64, at int64, answer what) {
		serial++
		id := fmt.Sprint("id-", number)
		e.reports = append(e.reports, report{begun, 1, serial, at, id}, report{answer, 1, serial, at + second/100, id})
	}
	for n := int64(1); n <= 5; n++ {
		e.entries = append(e.entries, entry{id: fmt.Sprint("id-", n), key: "a", committed: n < 5, poison: n == 4, inDatabase: 100 + n})
	}
	send(1, 1*second, succeeded)
	send(2, 2*second, succeeded)
	send(3, 20*second, failed)
	send(3, 21*second, succeeded)
	send(4, 3*second, failed)
	for _, n := range []int64{1, 2, 3, 3} {
		e.received = append(e.received, received{fmt.Sprint("id-", n), n, 1})
	}
	return e
}

func TestJudge(t *testing.T) {
	t.Parallel()
	again := func(number int64, process int, at int64) []report {
		id := fmt.Sprint("id-", number)
		return []report{{begun, process, 99, at, id}, {succeeded, process, 99, at + second/100, id}}
	}
	for name, test := range map[string]struct {
		plant func(e *evidence)
		want  findings
	}{
		"innocent":             {func(*evidence) {}, findings{}},
		"lost":                 {func(e *evidence) { e.received = e.received[:2] }, findings{Lost: 1}},
		"rolled back":          {func(e *evidence) { e.received = append(e.received, received{"id-5", 5, 1}) }, findings{Phantom: 1}},
		"unknown":              {func(e *evidence) { e.received = append(e.received, received{"id-6", 6, 1}) }, findings{Phantom: 1}},
		"unknown and sent":     {func(e *evidence) { e.reports = append(e.reports, report{begun, 1, 99, 0, "id-6"}) }, findings{Phantom: 1}},
		"changed":              {func(e *evidence) { e.received[0].number = 2 }, findings{Phantom: 1, Lost: 1}},
		"out of order":         {func(e *evidence) { e.received[0], e.received[1] = e.received[1], e.received[0] }, findings{OrderViolations: 1}},
		"stored too often":     {func(e *evidence) { e.received = append(e.received, e.received[2]) }, findings{Groundless: 1}},
		"sent for no reason":   {func(e *evidence) { e.reports = append(e.reports, again(2, 2, 22*second)...) }, findings{Groundless: 1}},
		"failed early":         {func(e *evidence) { e.firstFault = 30 * second }, findings{EarlyFailures: 1}},
		"poison is not dead":   {func(e *evidence) { e.dead = nil }, findings{MissingDead: 1}},
		"poison has no reason": {func(e *evidence) { e.dead[104] = "" }, findings{MissingDead: 1}},
		"poison is stored":     {func(e *evidence) { e.received = append(e.received, received{"id-4", 4, 1}) }, findings{Phantom: 1}},
		"dead and needs not":   {func(e *evidence) { e.dead[101] = "why" }, findings{UnexpectedDead: 1}},
		"dead and unknown":     {func(e *evidence) { e.dead[1] = "why" }, findings{UnexpectedDead: 1}},
		"killed after that": {func(e *evidence) {
			e.hits = append(e.hits, hit{1, 2*second + second/2})
			e.reports = append(e.reports, again(2, 2, 22*second)...)
		}, findings{}},
		"killed much later": {func(e *evidence) {
			e.hits = append(e.hits, hit{1, 8 * second})
			e.reports = append(e.reports, again(2, 2, 22*second)...)
		}, findings{Groundless: 1}},
		"a zombie": {func(e *evidence) {
			e.hits = append(e.hits, hit{2, 21 * second})
			e.reports = append(e.reports, again(2, 2, 22*second)...)
		}, findings{}},
		"repeats out of order": {func(e *evidence) { // 1 2 3 3, then 2 1 2 1 of a process whose attempts all succeeded
			for serial, n := range []int64{2, 1, 2, 1} {
				id := fmt.Sprint("id-", n)
				e.reports = append(e.reports, report{begun, 2, int64(serial), 40 * second, id}, report{succeeded, 2, int64(serial), 46 * second, id})
				e.received = append(e.received, received{id, n, 2})
			}
			e.hits = append(e.hits, hit{1, 1 * second}, hit{1, 2 * second})
		}, findings{DisorderedRuns: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := innocent()
			test.plant(&e)
			got := find(e)
			for _, count := range []struct {
				what      string
				got, want int
			}{
				{"lost", got.Lost, test.want.Lost},
				{"phantom", got.Phantom, test.want.Phantom},
				{"order", got.OrderViolations, test.want.OrderViolations},
				{"groundless", got.Groundless, test.want.Groundless},
				{"runs", got.DisorderedRuns, test.want.DisorderedRuns},
				{"early", got.EarlyFailures, test.want.EarlyFailures},
				{"missing dead", got.MissingDead, test.want.MissingDead},
				{"unexpected dead", got.UnexpectedDead, test.want.UnexpectedDead},
			} {
				if count.got != count.want {
					t.Errorf("%s: %d, want %d: %v", count.what, count.got, count.want, got.problems)
				}
			}
			if got.Committed != 4 || got.RolledBack != 1 || got.Poison != 1 {
				t.Errorf("counted %+v", got)
			}
			if name == "innocent" && (got.Duplicates != 1 || got.DuplicatesBound != 1) {
				t.Errorf("%d duplicates of %d", got.Duplicates, got.DuplicatesBound)
			}
		})
	}
}

// Lines that a kill has cut off do not take others with them.
func TestReadReports(t *testing.T) {
	t.Parallel()
	first, second := report{begun, 1, 7, 123, "id-1"}, report{failed, 2, 8, 456, "id-2"}
	text := append(first.line(), first.line()[:9]...)
	text = append(append(text, second.line()...), second.line()[:4]...)
	file := filepath.Join(t.TempDir(), "reports")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readReports(file)
	if err != nil || len(got) != 2 || got[0] != first || got[1] != second {
		t.Errorf("read %v, %v", got, err)
	}
}
