// Package report keeps what was measured, and renders it: Markdown, JSON, and a picture for each scenario.
package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/bench/systems"
)

// A Result is everything that one run has to say. It is what is written as JSON.
type Result struct {
	Meta      Meta       `json:"meta"`
	Scenarios []Scenario `json:"scenarios"`
	Targets   []Target   `json:"targets"`
	Systems   []System   `json:"systems"`
	Samples   []Sample   `json:"samples"`
}

// Meta says where, when and how.
type Meta struct {
	At         time.Time         `json:"at"`
	Took       time.Duration     `json:"took_ns"`
	CPU        string            `json:"cpu"`
	Cores      int               `json:"cores"`
	MemoryGiB  float64           `json:"memory_gib"`
	OS         string            `json:"os"`
	Go         string            `json:"go"`
	PostgreSQL string            `json:"postgresql"`
	Revision   string            `json:"revision"`
	Settings   map[string]string `json:"settings"` // of the server
	Options    map[string]string `json:"options"`  // of the run
	Command    string            `json:"command"`  // that repeats it
}

// A System is one of those that were measured.
type System struct {
	Name     string         `json:"name"`
	Version  string         `json:"version"`
	Settings string         `json:"settings"`
	Offers   systems.Offers `json:"offers"`
}

// A Scenario says what was done, and which values its samples have.
type Scenario struct {
	Number  int      `json:"number"`
	Title   string   `json:"title"`
	Method  string   `json:"method"`
	Columns []Column `json:"columns"`
}

// A Column is a value that samples of a scenario have. The first one is drawn.
type Column struct {
	Key   string `json:"key"`
	Title string `json:"title"`
}

// A Sample is one measurement.
type Sample struct {
	Scenario int                `json:"scenario"`
	Case     string             `json:"case"`
	System   string             `json:"system"`
	Round    int                `json:"round"`
	Values   map[string]float64 `json:"values"`
	Fault    string             `json:"fault,omitempty"` // why there are no values
	// How many cores others used meanwhile, and how many the host took. Nil where it is not known.
	OtherLoad *float64 `json:"other_load,omitempty"`
	Steal     *float64 `json:"steal,omitempty"`
}

// A Stat is what several rounds measured.
type Stat struct {
	Median, Min, Max float64
	N                int
}

// statOf returns false if there are no values.
func statOf(values []float64) (Stat, bool) {
	if len(values) == 0 {
		return Stat{}, false
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	median := (sorted[(n-1)/2] + sorted[n/2]) / 2
	return Stat{Median: median, Min: sorted[0], Max: sorted[n-1], N: n}, true
}

// A row is all samples of one system in one case.
type row struct {
	Case, System string
	samples      []Sample
}

func (r *row) stat(key string) (Stat, bool) {
	var values []float64
	for _, s := range r.samples {
		if v, ok := s.Values[key]; ok {
			values = append(values, v)
		}
	}
	return statOf(values)
}

func (r *row) worst(of func(*Sample) *float64) (float64, bool) {
	most, known := 0.0, false
	for i := range r.samples {
		if v := of(&r.samples[i]); v != nil {
			most, known = max(most, *v), true
		}
	}
	return most, known
}

func (r *row) fault() string {
	for _, s := range r.samples {
		if s.Fault != "" {
			return s.Fault
		}
	}
	return ""
}

// rows groups the samples of a scenario, in the order of the first round.
func (r *Result) rows(scenario int) []*row {
	var rows []*row
	samples := slices.Clone(r.Samples)
	slices.SortStableFunc(samples, func(a, b Sample) int { return cmp.Compare(a.Round, b.Round) })
	for _, s := range samples {
		if s.Scenario != scenario {
			continue
		}
		i := slices.IndexFunc(rows, func(r *row) bool { return r.Case == s.Case && r.System == s.System })
		if i < 0 {
			i, rows = len(rows), append(rows, &row{Case: s.Case, System: s.System})
		}
		rows[i].samples = append(rows[i].samples, s)
	}
	return rows
}
