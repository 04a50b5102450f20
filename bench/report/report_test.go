package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// example has two systems, three rounds whose weather changes, and a cell that failed.
func example() *Result {
	load := 0.25
	r := &Result{
		Scenarios: []Scenario{{Number: 3, Title: "Drain & more", Method: "Empties it.", Columns: []Column{{"rate", "events/s"}, {"p99", "p99 ms"}}}},
		Targets: []Target{
			{Scenario: 3, What: "fast", Of: Ref{"one", "signalbox", "rate"}, AtLeast: 150, Unit: "events/s"},
			{Scenario: 3, What: "faster", Of: Ref{"one", "signalbox", "rate"}, AtLeast: 3, Against: []Ref{{"one", "a", "rate"}, {"one", "b", "rate"}}},
			{Scenario: 3, What: "prompt", Of: Ref{"one", "signalbox", "p99"}, AtMost: 5, Unit: "ms"},
			{Scenario: 3, What: "elsewhere", Of: Ref{"two", "signalbox", "rate"}, AtLeast: 1},
		},
		Systems: []System{{Name: "signalbox", Version: "this tree", Settings: "the | defaults"}},
	}
	for round, weather := range []float64{1, 0.5, 2} {
		add := func(system string, rate, p99 float64) {
			r.Samples = append(r.Samples, Sample{
				Scenario: 3, Case: "one", System: system, Round: round + 1, Values: map[string]float64{"rate": rate, "p99": p99}, OtherLoad: &load, Steal: &load,
			})
		}
		add("signalbox", 1000*weather, 4+float64(round))
		add("a", 100*weather, 1)
		add("b", 250*weather, 1)
	}
	r.Samples = append(r.Samples, Sample{Scenario: 3, Case: "two", System: "b", Round: 1, Fault: "it broke"})
	return r
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	r := example()
	for i, want := range []struct {
		stat       Stat
		met, known bool
	}{
		{Stat{1000, 500, 2000, 3}, true, true},
		{Stat{4, 4, 4, 3}, true, true}, // within a round, against the best: the weather does not matter
		{Stat{5, 4, 6, 3}, true, true},
		{Stat{}, false, false},
	} {
		stat, met, known := r.verdict(&r.Targets[i])
		if stat != want.stat || known != want.known || known && met != want.met {
			t.Errorf("%s: got %+v, %v, %v", r.Targets[i].What, stat, met, known)
		}
	}
	r.Targets[2].AtMost = 4.9
	if _, met, _ := r.verdict(&r.Targets[2]); met {
		t.Error("5 ms is met as at most 4.9")
	}
}

func TestStat(t *testing.T) {
	t.Parallel()
	if _, known := statOf(nil); known {
		t.Error("nothing has a median")
	}
	if s, _ := statOf([]float64{4, 1, 3, 2}); s != (Stat{2.5, 1, 4, 4}) {
		t.Errorf("got %+v", s)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 0.97312: "0.973", 0.05: "0.05", 0.0004: "0", 1: "1", 1.5: "1.5", 12.345: "12.3", 123.4: "123", 500: "500", 999.7: "1,000",
		4321.4: "4,321", 1234567: "1,234,567", -5.25: "-5.25", -1234: "-1,234",
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) is %q, want %q", v, got, want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := example().Markdown(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## 3. Drain & more\n\nEmpties it.\n",
		"| case | system | events/s | p99 ms | other load | rounds |\n|---|---|---|---|---|---|\n",
		"| one | signalbox | 1,000 (500 to 2,000) | 5 (4 to 6) | 0.25 + 0.25 | 3 |\n",
		"| two | b |  |  | unknown | 1: it broke |\n",
		"| fast | ≥ 150 events/s | 1,000 (500 to 2,000) | met |\n",
		"| faster | ≥ 3 | 4 (4 to 4) | met |\n",
		"| elsewhere | ≥ 1 |  | not measured |\n",
		`| signalbox | this tree | the \| defaults |`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	r, folder := example(), filepath.Join(t.TempDir(), "results")
	r.Scenarios = append(r.Scenarios, Scenario{Number: 4, Title: "Nothing", Columns: []Column{{"x", "x"}}})
	if err := r.Write(folder); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(text, &back); err != nil || len(back.Samples) != len(r.Samples) {
		t.Errorf("read %d samples, %v", len(back.Samples), err)
	}
	picture, err := os.ReadFile(filepath.Join(folder, "scenario-03.svg"))
	if err != nil {
		t.Fatal(err)
	}
	bars := 0
	for d := xml.NewDecoder(bytes.NewReader(picture)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the picture is not XML: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 3 {
		t.Errorf("the picture has %d bars", bars)
	}
	if _, err := os.Stat(filepath.Join(folder, "scenario-04.svg")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a picture of nothing: %v", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	r := example()
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	r.Targets[0].Of.Value = "speed"
	if err := r.Check(); err == nil || !strings.Contains(err.Error(), `"speed"`) {
		t.Errorf("got %v", err)
	}
}
