package worker

import (
	"math"
	"testing"
	"time"
)

// TestNoticedInTime adds up how long it takes at most, by default, until a worker looks at the log once more: Run's documentation promises that it
// ends within 5 seconds of when events could be lost. The rest is for what it asks the database.
func TestNoticedInTime(t *testing.T) {
	t.Parallel()
	cfg, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	beat := cfg.PollInterval - cfg.PollInterval/20 + cfg.PollInterval/5 // see beat
	if longest := logEvery + beat; longest > 4500*time.Millisecond {
		t.Errorf("a worker looks at the log every %v at most, too seldom for 5s", longest)
	}
}

// TestDefaults resolves what is left out, and what has no limit.
func TestDefaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                                string
		cfg                                 Config
		sub                                 Subscription
		shutdown, retention, timeout, parks time.Duration
		attempts                            int
	}{
		{
			name: "zero", sub: Subscription{Name: "s"},
			shutdown: 30 * time.Second, retention: 7 * 24 * time.Hour, timeout: 30 * time.Second, parks: time.Second, attempts: 100,
		},
		{
			name: "unlimited", cfg: Config{ShutdownTimeout: Unlimited, Retention: Unlimited},
			sub:      Subscription{Name: "s", Timeout: Unlimited, ParkAfter: Unlimited, Retry: Retry{MaxAttempts: Unlimited}},
			shutdown: unlimited, retention: Unlimited, timeout: unlimited, parks: unlimited, attempts: math.MaxInt,
		},
		{
			name: "longer than anything lasts", cfg: Config{ShutdownTimeout: math.MaxInt64 - 1},
			sub:      Subscription{Name: "s", Timeout: math.MaxInt64 - 1, ParkAfter: math.MaxInt64 - 1},
			shutdown: unlimited, retention: 7 * 24 * time.Hour, timeout: unlimited, parks: unlimited, attempts: 100,
		},
	} {
		cfg, err := test.cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		sub, err := test.sub.withDefaults(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.ShutdownTimeout != test.shutdown || cfg.Retention != test.retention || sub.Timeout != test.timeout || sub.ParkAfter != test.parks ||
			sub.Retry.MaxAttempts != test.attempts {
			t.Errorf("%s: got %+v, %+v", test.name, cfg, sub)
		}
	}
}
