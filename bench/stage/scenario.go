// Package stage has what scenarios are made of: databases, traffic, worker processes, and the order in which all of them are measured.
//
// A scenario is a list of cells: one system in one case. All cells run once in each round, so that systems are measured in turns,
// on the same server, under the same weather; every other round runs them backwards. Each cell has a new database, which goes
// when it is done.
package stage

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
	Rounds   int

	// Progress receives a line for each measurement.
	Progress func(format string, args ...any)
}

// A Scenario is one thing to measure.
type Scenario struct {
	report.Scenario
	Once    bool // one round is enough, or all there is time for
	Cells   func(*Env) []Cell
	Targets []report.Target
}

// A Cell is one measurement.
type Cell struct {
	Name   string // of the case
	System string
	Run    func(ctx context.Context, m *Measurement) error
}

// Scenarios are those of a program, by number.
type Scenarios []Scenario

// Numbers returns those of all scenarios.
func (list Scenarios) Numbers() []int {
	var numbers []int
	for _, s := range list {
		numbers = append(numbers, s.Number)
	}
	return numbers
}

// Titles returns a line on each scenario, for the help.
func (list Scenarios) Titles() []string {
	var lines []string
	for _, s := range list {
		lines = append(lines, fmt.Sprintf("%d %s", s.Number, s.Title))
	}
	return lines
}

// Check returns an error if there is no scenario with one of the numbers.
func (list Scenarios) Check(numbers []int) error {
	for _, n := range numbers {
		if !slices.Contains(list.Numbers(), n) {
			return fmt.Errorf("there is no scenario %d: they are %v", n, list.Numbers())
		}
	}
	return nil
}

// Run measures the scenarios with the given numbers and adds them to the result. When ctx ends, what was measured until then is
// in the result.
func Run(ctx context.Context, cfg Config, list Scenarios, numbers []int, result *report.Result) error {
	e := &Env{Config: cfg, templates: map[string]bool{}}
	defer e.end()
	start := time.Now()
	for _, s := range list {
		if !slices.Contains(numbers, s.Number) {
			continue
		}
		for i := range s.Targets {
			s.Targets[i].Scenario = s.Number
		}
		result.Scenarios, result.Targets = append(result.Scenarios, s.Scenario), append(result.Targets, s.Targets...)
		rounds := cfg.Rounds
		if s.Once {
			rounds = 1
		}
		for round := 1; round <= rounds; round++ {
			cells := s.Cells(e)
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
				e.Progress("%v: %d. %s, round %d of %d: %s, %s: %s", time.Since(start).Round(time.Second), s.Number, s.Title, round, rounds, c.Name, c.System, summary(&s, &sample))
			}
		}
	}
	return nil
}

func summary(s *Scenario, sample *report.Sample) string {
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
func (e *Env) measure(ctx context.Context, c Cell) report.Sample {
	m := &Measurement{Sample: report.Sample{Case: c.Name, System: c.System, Values: map[string]float64{}}}
	if err := c.Run(ctx, m); err != nil {
		m.Sample.Fault = err.Error()
		m.Sample.Values = nil
	}
	return m.Sample
}

// A Measurement is filled in by a cell.
type Measurement struct {
	Sample report.Sample
	load   *measure.Load
}

// Begin is called when what is measured begins: to know what else the machine did meanwhile.
func (m *Measurement) Begin() { m.load = measure.BeginLoad() }

// End is called when what is measured has ended.
func (m *Measurement) End() {
	if usage, known := m.load.End(); known {
		m.Sample.OtherLoad, m.Sample.Steal = &usage.Other, &usage.Steal
	}
}

// Set sets a value, unless there was nothing to divide by.
func (m *Measurement) Set(key string, value float64) {
	if !math.IsNaN(value) && !math.IsInf(value, 0) {
		m.Sample.Values[key] = value
	}
}
