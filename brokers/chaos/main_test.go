package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/relay"
)

// bugEnv names the bug that relays have.
const bugEnv = "SIGNALBOX_CHAOS_BUG"

func TestMain(m *testing.M) {
	nats.Main()
	if receiverRole.Given() {
		os.Exit(runReceiver())
	}
	if relayRole.Given() {
		os.Exit(runRelay(func(s relay.Sink) relay.Sink {
			switch os.Getenv(bugEnv) {
			case "early":
				return early{s}
			case "twice":
				return twice{s}
			default:
				return s
			}
		}))
	}
	goleak.VerifyTestMain(m)
}

// early acknowledges before the broker has.
type early struct{ relay.Sink }

func (s early) Send(ctx context.Context, m *relay.Message, done func(error)) {
	done(nil)
	s.Sink.Send(context.WithoutCancel(ctx), m, func(error) {})
}

// twice sends each message again as another one would be.
type twice struct{ relay.Sink }

func (s twice) Send(ctx context.Context, m *relay.Message, done func(error)) {
	s.Sink.Send(ctx, m, func(err error) {
		time.AfterFunc(time.Second, func() { s.Sink.Send(context.WithoutCancel(ctx), m, func(error) {}) })
		done(err)
	})
}

func short(t *testing.T, cfg config) *verdict {
	t.Helper()
	cfg.place, cfg.seed, cfg.rate, cfg.out, cfg.folder = natsPlace, 1, 60, t.Output(), t.TempDir()
	v, err := run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", raw)
	return v
}

// TestChaos is a short run.
func TestChaos(t *testing.T) {
	t.Parallel()
	if v := short(t, config{length: 20 * time.Second}); v.Verdict != passed {
		t.Errorf("seed %d: %s", v.Seed, strings.Join(v.Failures, "; "))
	}
}

// TestNoticesBugs has relays with a bug.
func TestNoticesBugs(t *testing.T) {
	t.Parallel()
	for bug, noticed := range map[string]func(*verdict) bool{
		"early": func(v *verdict) bool { return v.Lost > 0 },
		"twice": func(v *verdict) bool { return v.Groundless > 0 },
	} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			if v := short(t, config{length: 10 * time.Second, only: "broker killed", relayEnv: []string{bugEnv + "=" + bug}}); !noticed(v) {
				t.Errorf("not noticed: %v", v.Failures)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--for", "1s"}, {"--rate", "0"}, {"--nope"}, {"--seed", "x"}, {"--sink", "pigeons"}, {"--only", "quota"}} {
		var out, story bytes.Buffer
		if _, err := chaos(t.Context(), args, &out, &story); err == nil || out.Len() > 0 || story.Len() > 0 {
			t.Errorf("%v: %v", args, err)
		}
	}
}
