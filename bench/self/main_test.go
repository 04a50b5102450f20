package main

import (
	"testing"

	"github.com/signalbox-go/signalbox/bench/program/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, Run) }

// TestRun measures in every way.
func TestRun(t *testing.T) {
	t.Parallel()
	programtest.Measure(t, Run, []int{8, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21}, "--kills 1 --scale 0.0005")
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	programtest.Refuse(t, Run, "--kills 0", "--scale 0", "--scale 2", "--systems river", "--scenarios 3")
}

func TestHelp(t *testing.T) {
	t.Parallel()
	programtest.Help(t, Run, "12 Operating", "--rounds=3", "--kills=20")
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	programtest.Numbers(t, scenarios(1, 1))
}
