package main

import (
	"testing"

	"github.com/signalbox-go/signalbox/bench/program/programtest"
	"github.com/signalbox-go/signalbox/brokers/nats"
)

func TestMain(m *testing.M) {
	nats.Main()
	programtest.Main(m, Run)
}

// TestRun measures in every way, with the servers that come with this program: package brokers tests the others.
func TestRun(t *testing.T) {
	t.Parallel()
	programtest.Measure(t, Run, []int{22}, "--sinks nats,webhook")
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	programtest.Refuse(t, Run, "--sinks pigeons", "--scenarios 3", "--systems river")
}

func TestHelp(t *testing.T) {
	t.Parallel()
	programtest.Help(t, Run, "22 Relay", "--rounds=3", "rabbitmq")
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	programtest.Numbers(t, scenarios(nil))
}
