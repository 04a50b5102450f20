package otel_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/metrics"
	"github.com/signalbox-go/signalbox/otel"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// TestMetrics compares what OpenTelemetry exports with what Prometheus scrapes, of the same worker: each series, with its labels and its
// value, or how many observations it has and their sum.
func TestMetrics(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	m := metrics.New(metrics.Config{Pool: db.Pool})
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	producer, err := otel.NewMetricProducer(m)
	if err != nil {
		t.Fatal(err)
	}
	reader := metric.NewManualReader(metric.WithProducer(producer))
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	t.Cleanup(func() { _ = provider.Shutdown(context.WithoutCancel(t.Context())) })

	if _, err := outbox.Publish(t.Context(), db.Pool, event("a.x"), event("a.y")); err != nil {
		t.Fatal(err)
	}
	m.Published("a.x", 1)
	run(t, db, worker.Config{Hooks: []worker.Hooks{m.Hooks()}}, func(w *worker.Worker) error {
		return worker.Handle(w, worker.Subscription{Name: "s", Topics: []string{">"}}, func(context.Context, *worker.Event[json.RawMessage]) error { return nil })
	})
	// A scrape and an export are two moments: so the pool's counters and a worker that has just woken up may differ for one.
	deadline := time.Now().Add(time.Minute)
	for {
		want, got := scraped(t, registry), exported(t, reader)
		diff := cmp.Diff(want, got)
		handled := want[`signalbox_delivered_total{outbox="outbox",subscription="s",topic="a.x"}`] == 1.0 && got[`signalbox_lag_events{outbox="outbox",subscription="s"}`] != nil
		if diff == "" && handled {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("exported is not what is scraped (handled: %v):\n%s", handled, diff)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := otel.NewMetricProducer(m, metrics.New(metrics.Config{})); err == nil {
		t.Error("two of the same outbox make no error")
	}
}

// series is the name of a metric with its labels, in order.
func series(name string, labels map[string]string) string {
	var list []string
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, fmt.Sprintf("%s=%q", label, labels[label]))
	}
	return name + "{" + strings.Join(list, ",") + "}"
}

// scraped returns the value of each series; of histograms, how many observations they have and their sum.
func scraped(t *testing.T, from prometheus.Gatherer) map[string]any {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			name := series(family.GetName(), labels)
			switch family.GetType() {
			case dto.MetricType_HISTOGRAM:
				values[name] = fmt.Sprint(m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum())
			case dto.MetricType_COUNTER:
				values[name] = m.GetCounter().GetValue()
			default:
				values[name] = m.GetGauge().GetValue()
			}
		}
	}
	return values
}

// exported is scraped, of a reader.
func exported(t *testing.T, from metric.Reader) map[string]any {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := from.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	labels := func(set attribute.Set) map[string]string {
		labels := map[string]string{}
		for _, a := range set.ToSlice() {
			labels[string(a.Key)] = a.Value.AsString()
		}
		return labels
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					values[series(m.Name, labels(p.Attributes))] = fmt.Sprint(p.Count, p.Sum)
				}
			case metricdata.Sum[float64]:
				for _, p := range data.DataPoints {
					values[series(m.Name, labels(p.Attributes))] = p.Value
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					values[series(m.Name, labels(p.Attributes))] = p.Value
				}
			default:
				t.Fatalf("%s is a %T", m.Name, data)
			}
		}
	}
	return values
}
