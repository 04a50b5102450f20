package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/scenarios"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/internal/cli"
)

// TestMain is a worker process of a measurement, too: runs start their own program in that role.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == scenarios.WorkerRole {
		if err := Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestRun measures next to nothing, in every way: figures mean nothing here, but that there are some.
func TestRun(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var stdout, stderr bytes.Buffer
	args := strings.Fields("--scenarios 1,2,3,4,5,6,8,10,11,12,13 --systems queue --events 2000 --rounds 1 --duration 100ms --held 1s --kills 1 --json --out " + folder)
	if err := Run(t.Context(), args, &stdout, &stderr); err != nil {
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
	if len(measured) != 11 {
		t.Errorf("samples by scenario: %v", measured)
	}
	// A target about a case or system that is not measured would never be judged.
	for _, target := range result.Targets {
		for _, ref := range append(target.Against, target.Of) {
			if _, err := systems.Find(ref.System); err == nil && ref.System != systems.Signalbox {
				continue // not chosen here
			}
			if !slices.ContainsFunc(result.Samples, func(s report.Sample) bool {
				return s.Scenario == target.Scenario && s.Case == ref.Case && s.System == ref.System
			}) {
				t.Errorf("target %q speaks of %v, which is not measured", target.What, ref)
			}
		}
	}
	for _, file := range []string{"results.md", "results.json", "scenario-03.svg"} {
		if info, err := os.Stat(filepath.Join(folder, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"--scenarios 99", "--systems rabbit", "--events 1", "--rounds 0", "--duration 1ms", "--held 1ms", "--kills 0", "--nonsense"} {
		var usage *cli.UsageError
		if err := Run(t.Context(), strings.Fields(args), &bytes.Buffer{}, &bytes.Buffer{}); !errors.As(err, &usage) {
			t.Errorf("%s: got %v", args, err)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var stdout bytes.Buffer
	if err := Run(t.Context(), []string{"--help"}, &stdout, &bytes.Buffer{}); !errors.Is(err, cli.ErrHelp) {
		t.Fatal(err)
	}
	for _, want := range []string{"3 Drain", "--rounds=3", "river-best"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q is missing in\n%s", want, stdout.String())
		}
	}
}
