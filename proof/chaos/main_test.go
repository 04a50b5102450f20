package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if workerRole.Given() {
		os.Exit(runWorker())
	}
	goleak.VerifyTestMain(m)
}

// TestChaos is a short run. Its lease is short, so that what outlives it fits in; and what is left may take its time, because
// other tests run beside it.
func TestChaos(t *testing.T) {
	t.Parallel()
	v, err := run(t.Context(), config{
		length: 15 * time.Second, seed: 1, rate: 60, lease: 3 * time.Second,
		drainLimit: time.Minute, slack: 15 * time.Second, out: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", raw)
	if v.Verdict != "passed" {
		t.Errorf("seed %d: %s", v.Seed, strings.Join(v.Failures, "; "))
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--for", "1s"}, {"--rate", "0"}, {"--nope"}, {"--seed", "x"}} {
		var out, story bytes.Buffer
		if _, err := chaos(t.Context(), args, &out, &story); err == nil || out.Len() > 0 || story.Len() > 0 {
			t.Errorf("%v: %v", args, err)
		}
	}
}
