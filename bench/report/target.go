package report

import (
	"fmt"
	"slices"
)

// A Ref names a value of a system in a case.
type Ref struct {
	Case   string `json:"case"`
	System string `json:"system"`
	Value  string `json:"value"`
}

// A Target is what the project wants to reach.
type Target struct {
	Scenario int    `json:"scenario"`
	What     string `json:"what"`
	Of       Ref    `json:"of"`
	// Against makes it a ratio, within each round, to the best of these that were measured.
	Against []Ref   `json:"against,omitempty"`
	AtLeast float64 `json:"at_least,omitempty"`
	AtMost  float64 `json:"at_most,omitempty"`
	Unit    string  `json:"unit,omitempty"`
}

// wanted is the target as text: "≥ 300,000 /s".
func (t *Target) wanted() string {
	unit := t.Unit
	if unit != "" {
		unit = " " + unit
	}
	if t.AtMost > 0 {
		return "≤ " + number(t.AtMost) + unit
	}
	return "≥ " + number(t.AtLeast) + unit
}

// verdict returns what was measured of a target, and whether it is met. It is false where a side was not measured.
func (r *Result) verdict(t *Target) (measured Stat, met, known bool) {
	var values []float64
	for _, of := range r.Samples {
		v, ok := of.value(t.Scenario, t.Of)
		if !ok {
			continue
		}
		if len(t.Against) > 0 {
			best, found := r.best(t, of.Round)
			if !found {
				continue
			}
			v /= best
		}
		values = append(values, v)
	}
	measured, known = statOf(values)
	if t.AtMost > 0 {
		return measured, measured.Median <= t.AtMost, known
	}
	return measured, measured.Median >= t.AtLeast, known
}

// best is the largest value of a round that a target compares with.
func (r *Result) best(t *Target, round int) (best float64, found bool) {
	for i := range r.Samples {
		if r.Samples[i].Round != round {
			continue
		}
		for _, ref := range t.Against {
			if v, ok := r.Samples[i].value(t.Scenario, ref); ok && v > 0 {
				best, found = max(best, v), true
			}
		}
	}
	return best, found
}

func (s *Sample) value(scenario int, ref Ref) (float64, bool) {
	if s.Scenario != scenario || s.Case != ref.Case || s.System != ref.System {
		return 0, false
	}
	v, ok := s.Values[ref.Value]
	return v, ok
}

// Check returns an error if a target speaks of a scenario or value that does not exist: else it would never be judged.
func (r *Result) Check() error {
	for _, t := range r.Targets {
		i := slices.IndexFunc(r.Scenarios, func(s Scenario) bool { return s.Number == t.Scenario })
		if i < 0 {
			continue // not chosen
		}
		for _, ref := range append([]Ref{t.Of}, t.Against...) {
			if !slices.ContainsFunc(r.Scenarios[i].Columns, func(c Column) bool { return c.Key == ref.Value }) {
				return fmt.Errorf("target %q speaks of the value %q, which scenario %d does not measure", t.What, ref.Value, t.Scenario)
			}
		}
	}
	return nil
}
