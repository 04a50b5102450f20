package main

import (
	"testing"

	"github.com/signalbox-go/signalbox/bench/compare/peers"
	"github.com/signalbox-go/signalbox/bench/program/programtest"
	"github.com/signalbox-go/signalbox/bench/systems"
)

func TestMain(m *testing.M) { programtest.Main(m, Run) }

// TestRun measures in every way but scenario 7, which waits for a minute, and 9 and 18, which take longer than all others.
func TestRun(t *testing.T) {
	t.Parallel()
	var notChosen []string
	for _, name := range systems.Names(peers.All()) {
		if name != systems.Signalbox && name != "queue" {
			notChosen = append(notChosen, name)
		}
	}
	programtest.Measure(t, Run, []int{1, 2, 3, 4, 5, 6, 10}, "--systems queue --held 1s", notChosen...)
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	programtest.Refuse(t, Run, "--systems rabbit", "--held 1ms", "--kills 1", "--scenarios 8")
}

func TestHelp(t *testing.T) {
	t.Parallel()
	programtest.Help(t, Run, "3 Drain", "--rounds=3", "river-best")
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	programtest.Numbers(t, scenarios(0))
}
