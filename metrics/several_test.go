package metrics_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/metrics"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestTwoOutboxes has the metrics of two outboxes of one database in one registry.
func TestTwoOutboxes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	billing, err := outbox.In("billing")
	if err == nil {
		err = apply.Up(t.Context(), db.Conn(t), migrations.For(billing))
	}
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	for _, o := range []outbox.Outbox{{}, billing} {
		m := metrics.New(metrics.Config{Pool: db.Pool, Outbox: o, Logger: testLogger(t)})
		if err := registry.Register(m); err != nil {
			t.Fatal(err)
		}
		m.Published("a.x", len(o.String()))
		if _, err := engine.Subscribe(t.Context(), o.DB(db.Pool), "s", []string{">"}, outbox.FromBeginning); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := billing.Publish(t.Context(), db.Pool, outbox.Event{Topic: "a.x", Payload: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	await(t, registry, map[string]float64{
		`signalbox_published_total{topic="a.x"}`:                     6,
		`signalbox_published_total{outbox="billing",topic="a.x"}`:    7,
		`signalbox_lag_events{subscription="s"}`:                     0,
		`signalbox_lag_events{outbox="billing",subscription="s"}`:    1,
		`signalbox_unowned_lanes{outbox="billing",subscription="s"}`: 64,
		`signalbox_up{outbox="billing"}`:                             1,
	})
}
