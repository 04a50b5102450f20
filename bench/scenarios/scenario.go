// Package scenarios has what is measured, one scenario in each file.
//
// A scenario is a list of cells: one system in one case. All cells run once in each round, so that systems are measured in turns,
// on the same server, under the same weather; every other round runs them backwards. Each cell has a new database, which goes
// when it is done.
package scenarios

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/internal/embeddedpg"
)

// Config is what a run measures, and how much of it.
type Config struct {
	Server   *embeddedpg.Server
	Systems  []systems.System // Signalbox is one of them
	Events   int              // of a backlog
	Duration time.Duration    // of a steady state
	Held     time.Duration    // for how long scenario 6 holds a snapshot
	Kills    int              // of scenario 8
	Rounds   int

	// Progress receives a line for each measurement.
	Progress func(format string, args ...any)
}

// A scenario is one thing to measure.
type scenario struct {
	report.Scenario
	once    bool // one round is enough, or all there is time for
	cells   func(*env) []cell
	targets []report.Target
}

// A cell is one measurement.
type cell struct {
	name   string // of the case
	system string
	run    func(ctx context.Context, m *measurement) error
}

// all returns the scenarios, by number.
func all() []scenario {
	return []scenario{
		publishCost(), steadyState(), drain(), bulk(), fanOut(), heldSnapshot(), idle(), takeover(), scale(), memory(), transactional(),
		operating(), pages(),
	}
}

// Numbers returns those of all scenarios.
func Numbers() []int {
	var numbers []int
	for _, s := range all() {
		numbers = append(numbers, s.Number)
	}
	return numbers
}

// List returns a line on each scenario, for the help.
func List() []string {
	var lines []string
	for _, s := range all() {
		lines = append(lines, fmt.Sprintf("%d %s", s.Number, s.Title))
	}
	return lines
}

// Run measures the scenarios with the given numbers and adds them to the result. When ctx ends, what was measured until then is
// in the result.
func Run(ctx context.Context, cfg Config, numbers []int, result *report.Result) error {
	e := &env{Config: cfg, templates: map[string]bool{}}
	defer e.end()
	start := time.Now()
	for _, s := range all() {
		if !slices.Contains(numbers, s.Number) {
			continue
		}
		for i := range s.targets {
			s.targets[i].Scenario = s.Number
		}
		result.Scenarios, result.Targets = append(result.Scenarios, s.Scenario), append(result.Targets, s.targets...)
		rounds := cfg.Rounds
		if s.once {
			rounds = 1
		}
		for round := 1; round <= rounds; round++ {
			cells := s.cells(e)
			if round%2 == 0 {
				slices.Reverse(cells)
			}
			for _, c := range cells {
				sample := e.measure(ctx, c)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				sample.Scenario, sample.Round = s.Number, round
				result.Samples = append(result.Samples, sample)
				e.Progress("%v: %d. %s, round %d of %d: %s, %s: %s", time.Since(start).Round(time.Second), s.Number, s.Title, round, rounds, c.name, c.system, summary(&s, &sample))
			}
		}
	}
	return nil
}

func summary(s *scenario, sample *report.Sample) string {
	if sample.Fault != "" {
		return sample.Fault
	}
	text := ""
	for _, c := range s.Columns {
		if v, ok := sample.Values[c.Key]; ok {
			if text != "" {
				text += ", "
			}
			text += fmt.Sprintf("%.4g %s", v, c.Title)
		}
	}
	return text
}

// measure runs a cell. A cell that fails says so in the report, and the others go on.
func (e *env) measure(ctx context.Context, c cell) report.Sample {
	m := &measurement{sample: report.Sample{Case: c.name, System: c.system, Values: map[string]float64{}}}
	if err := c.run(ctx, m); err != nil {
		m.sample.Fault = err.Error()
		m.sample.Values = nil
	}
	return m.sample
}

// A measurement is filled in by a cell.
type measurement struct {
	sample report.Sample
	load   *measure.Load
}

// begin is called when what is measured begins, and end when it has ended: to know what else the machine did meanwhile.
func (m *measurement) begin() { m.load = measure.BeginLoad() }

func (m *measurement) end() {
	if usage, known := m.load.End(); known {
		m.sample.OtherLoad, m.sample.Steal = &usage.Other, &usage.Steal
	}
}

// set sets a value, unless there was nothing to divide by.
func (m *measurement) set(key string, value float64) {
	if !math.IsNaN(value) && !math.IsInf(value, 0) {
		m.sample.Values[key] = value
	}
}

// CheckNumbers returns an error if there is no scenario with one of the numbers.
func CheckNumbers(numbers []int) error {
	for _, n := range numbers {
		if !slices.Contains(Numbers(), n) {
			return fmt.Errorf("there is no scenario %d: they are %v", n, Numbers())
		}
	}
	return nil
}
