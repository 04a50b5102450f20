// Package programtest tests commands that measure.
package programtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/internal/cli"
)

// A Run is a command.
type Run func(ctx context.Context, args []string, stdout, stderr io.Writer) error

// Main is TestMain. The test binary is a worker process of a measurement, too: commands start their own program in that role.
func Main(m *testing.M, run Run) {
	if len(os.Args) > 1 && os.Args[1] == stage.WorkerRole {
		if err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Measure measures next to nothing in scenarios: figures mean nothing, but that there are some. Targets may also speak of the systems
// given, which are not chosen.
func Measure(t *testing.T, run Run, scenarios []int, arguments string, notChosen ...string) {
	t.Helper()
	folder := t.TempDir()
	var stdout, stderr bytes.Buffer
	numbers := strings.Trim(strings.ReplaceAll(fmt.Sprint(scenarios), " ", ","), "[]")
	args := strings.Fields("--scenarios " + numbers + " " + arguments + " --events 2000 --rounds 1 --duration 100ms --json --out " + folder)
	if err := run(t.Context(), args, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var result report.Result
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		t.Fatal(err)
	}
	measured := map[int]int{}
	for _, s := range result.Samples {
		if s.Fault != "" || len(s.Values) == 0 {
			t.Errorf("%d. %s, %s: %s", s.Scenario, s.Case, s.System, s.Fault)
		}
		measured[s.Scenario]++
	}
	if len(measured) != len(scenarios) {
		t.Errorf("samples by scenario: %v", measured)
	}
	// A target about a case or system that is not measured would never be judged.
	for _, target := range result.Targets {
		for _, ref := range append(target.Against, target.Of) {
			if !slices.Contains(notChosen, ref.System) && !slices.ContainsFunc(result.Samples, func(s report.Sample) bool {
				return s.Scenario == target.Scenario && s.Case == ref.Case && s.System == ref.System
			}) {
				t.Errorf("target %q speaks of %v, which is not measured", target.What, ref)
			}
		}
	}
	for _, file := range []string{"results.md", "results.json", fmt.Sprintf("scenario-%02d.svg", scenarios[0])} {
		if info, err := os.Stat(filepath.Join(folder, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// Refuse tests that a command refuses arguments as wrong usage.
func Refuse(t *testing.T, run Run, lines ...string) {
	t.Helper()
	for _, args := range append(lines, "--scenarios 99", "--events 1", "--rounds 0", "--duration 1ms", "--nonsense") {
		var usage *cli.UsageError
		if err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard); !errors.As(err, &usage) {
			t.Errorf("%s: got %v", args, err)
		}
	}
}

// Help tests that the help of a command has texts.
func Help(t *testing.T, run Run, texts ...string) {
	t.Helper()
	var stdout bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &stdout, io.Discard); !errors.Is(err, cli.ErrHelp) {
		t.Fatal(err)
	}
	for _, want := range texts {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q is missing in\n%s", want, stdout.String())
		}
	}
}

// Numbers tests that scenarios have numbers of their own, in order.
func Numbers(t *testing.T, list stage.Scenarios) {
	t.Helper()
	numbers := list.Numbers()
	if !slices.IsSorted(numbers) || len(slices.Compact(slices.Clone(numbers))) != len(numbers) {
		t.Errorf("scenarios are numbered %v", numbers)
	}
	if err := list.Check(numbers); err != nil {
		t.Error(err)
	}
}
