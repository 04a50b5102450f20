package otel

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/signalbox-go/signalbox/metrics"
)

// NewMetricProducer returns a producer of all metrics of package metrics, for the option WithProducer of a reader of OpenTelemetry's SDK. They
// have the names and labels that docs/metrics.md lists. It returns an error if two of the Metrics are about the same outbox.
//
// It is a producer, and makes no instruments of a meter: these cannot pass on histograms that are counted already.
func NewMetricProducer(all ...*metrics.Metrics) (metric.Producer, error) {
	registry := prometheus.NewRegistry()
	for _, m := range all {
		if err := registry.Register(m); err != nil {
			return nil, fmt.Errorf("export metrics: %w", err)
		}
	}
	return bridge.NewMetricProducer(bridge.WithGatherer(registry)), nil
}
