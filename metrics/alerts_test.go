package metrics_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/needs"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/metrics"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// TestAlertsInOutages records the metrics of outages, and has promtool tell which alerts fire after 20 minutes of each.
func TestAlertsInOutages(t *testing.T) {
	t.Parallel()
	promtool := needs.Program(t, "apt-get install prometheus", "promtool")
	for name, test := range map[string]struct {
		fail func(t *testing.T, db *pgtest.DB, s engine.Subscription, m *metrics.Metrics, kill func())
		fire []string
	}{
		"nothing": {func(*testing.T, *pgtest.DB, engine.Subscription, *metrics.Metrics, func()) {}, nil},
		"the last worker is killed": {
			func(t *testing.T, db *pgtest.DB, _ engine.Subscription, _ *metrics.Metrics, kill func()) {
				enginetest.Publish(t, db.Pool, "k")
				enginetest.Age(t, db, 1)
				kill()
			}, []string{"SignalboxLag", "SignalboxNoWorker", "SignalboxOldestUnfinished"},
		},
		"everything fails": {
			func(t *testing.T, db *pgtest.DB, s engine.Subscription, m *metrics.Metrics, _ func()) {
				for range 10 {
					m.Hooks().AttemptEnded(t.Context(), metricsAttempt(s.Name, outbox.Retrying))
				}
				put(t, db, `
					insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, attempt, due_at)
					select $1, i, 0, 'a.x', '1', '{}', now() - interval '10 min', 'retrying', 4, now() from generate_series(1, 10) i`, s.ID)
			}, []string{"SignalboxFailing", "SignalboxOldestUnfinished"},
		},
		"the breaker is open": {
			func(t *testing.T, db *pgtest.DB, s engine.Subscription, _ *metrics.Metrics, _ func()) {
				put(t, db, `update outbox.members set breaker_opened_at = now()`)
				put(t, db, `update outbox.lanes set owner = (select m.worker_id from outbox.members m) where subscription_id = $1`, s.ID)
			}, []string{"SignalboxBreakerOpen"},
		},
		"lanes are full": {
			func(t *testing.T, db *pgtest.DB, _ engine.Subscription, _ *metrics.Metrics, _ func()) {
				put(t, db, `update outbox.members set full_lanes = 1`)
			}, []string{"SignalboxFullLanes"},
		},
		"keys are held": {
			func(t *testing.T, db *pgtest.DB, s engine.Subscription, _ *metrics.Metrics, _ func()) {
				put(t, db, `insert into outbox.held_keys (subscription_id, lane, key, from_id) values ($1, 7, 'k', 1)`, s.ID)
			}, []string{"SignalboxHeldKeys"},
		},
		"everything fails, little is tried and nothing counted": {
			func(t *testing.T, db *pgtest.DB, s engine.Subscription, m *metrics.Metrics, _ func()) {
				for range 3 {
					m.Hooks().AttemptEnded(t.Context(), metricsAttempt(s.Name, outbox.Retrying))
				}
				put(t, db, `
					insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, attempt, due_at)
					select $1, i, 0, 'a.x', '1', '{}', now() - interval '10 min', 'retrying', 0, now() from generate_series(1, 10) i`, s.ID)
			}, []string{"SignalboxFailing", "SignalboxOldestUnfinished"},
		},
		"dead letters are left": {
			func(t *testing.T, db *pgtest.DB, s engine.Subscription, _ *metrics.Metrics, _ func()) {
				put(t, db, `
					insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, attempt, due_at)
					select $1, i, 0, 'a.x', '1', '{}', now(), 'dead', 4, now() from generate_series(1, 10) i`, s.ID)
			}, []string{"SignalboxDeadLettersLeft"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			s := enginetest.Subscribe(t, db, ">")
			conn := db.Conn(t)
			id, err := engine.Join(t.Context(), conn, "w", true, time.Hour, []int32{s.ID})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := engine.Beat(t.Context(), conn, id, true); err != nil {
				t.Fatal(err)
			}
			m, before := registered(t, metrics.Config{Pool: db.Pool})
			m.Hooks().AttemptEnded(t.Context(), metricsAttempt(s.Name, outbox.Retrying))
			m.Hooks().AttemptEnded(t.Context(), metricsAttempt(s.Name, ""))
			well := recorded(gather(t, before), "signalbox_")

			_, after := registered(t, metrics.Config{Pool: db.Pool}) // what m knows of the database stays for some seconds
			test.fail(t, db, s, m, func() {
				if err := conn.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				for alive := true; alive; {
					if err := db.Pool.QueryRow(t.Context(), `select exists (select from outbox.workers w where `+engine.LiveSQL+`)`).Scan(&alive); err != nil {
						t.Fatal(err)
					}
				}
			})
			broken := recorded(gather(t, before), "signalbox_")
			for series, value := range recorded(gather(t, after), "signalbox_") {
				if _, counts := broken[series]; counts && !strings.HasSuffix(strings.SplitN(series, "{", 2)[0], "_total") {
					broken[series] = value
				}
			}
			promtest(t, promtool, well, broken, test.fire)
		})
	}
}

func metricsAttempt(subscription string, state outbox.State) worker.Attempt {
	a := attempt("a.x")
	a.Subscription, a.State = subscription, state
	if a.Err = nil; state != "" {
		a.Err = errors.New("no route to host")
	}
	return a
}

func put(t *testing.T, db *pgtest.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// recorded returns the values of counters and gauges by series.
func recorded(families map[string]*dto.MetricFamily, prefix string) map[string]float64 {
	found := map[string]float64{}
	for name, f := range families {
		if !strings.HasPrefix(name, prefix) || f.GetType() != dto.MetricType_COUNTER && f.GetType() != dto.MetricType_GAUGE {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := []string{`instance="i"`, `job="j"`}
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			found[name+"{"+strings.Join(labels, ",")+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return found
}

// promtest runs the rules over 10 minutes of one state and 20 of another, in which counters grow each minute as they did from one to the
// other, and wants exactly these alerts to fire at the end.
func promtest(t *testing.T, promtool string, well, broken map[string]float64, fire []string) {
	t.Helper()
	var b strings.Builder
	rules, err := filepath.Abs("../docs/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "rule_files: [%q]\nevaluation_interval: 15s\ntests:\n  - interval: 1m\n    input_series:\n", rules)
	for series, value := range well {
		grows := 0.0
		if strings.HasSuffix(strings.SplitN(series, "{", 2)[0], "_total") {
			grows = broken[series] - value
		}
		fmt.Fprintf(&b, "      - series: '%s'\n        values: '%g+0x10 %g+%gx20'\n", series, value, broken[series], grows)
	}
	b.WriteString("    promql_expr_test:\n      - expr: count by (alertname) (ALERTS{alertstate=\"firing\"})\n        eval_time: 30m\n        exp_samples:\n")
	slices.Sort(fire)
	for _, name := range fire {
		fmt.Fprintf(&b, "          - {labels: '{alertname=%q}', value: 1}\n", name)
	}
	file := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
