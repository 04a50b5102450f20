package metrics

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

var (
	poolConnections = prometheus.NewDesc("signalbox_pool_connections",
		"Connections of the pool: acquired, idle, or constructing.", []string{"state"}, nil)
	poolMax = prometheus.NewDesc("signalbox_pool_max_connections",
		"Connections that the pool may have.", nil, nil)
	poolAcquires = prometheus.NewDesc("signalbox_pool_acquires_total",
		"Connections that were acquired from the pool.", nil, nil)
	poolWaits = prometheus.NewDesc("signalbox_pool_waits_total",
		"Acquires that had to wait, because no connection was idle.", nil, nil)
	poolWaited = prometheus.NewDesc("signalbox_pool_wait_seconds_total",
		"Time that acquires waited because no connection was idle.", nil, nil)
	poolCanceled = prometheus.NewDesc("signalbox_pool_canceled_acquires_total",
		"Acquires that were given up before they got a connection.", nil, nil)
)

// poolStats tells about a pool of connections.
type poolStats struct{ pool *pgxpool.Pool }

func (p poolStats) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolConnections, poolMax, poolAcquires, poolWaits, poolWaited, poolCanceled} {
		descriptions <- d
	}
}

func (p poolStats) Collect(metrics chan<- prometheus.Metric) {
	s := p.pool.Stat()
	gauge := func(d *prometheus.Desc, n int32, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	counter := func(d *prometheus.Desc, n float64) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, n)
	}
	gauge(poolConnections, s.AcquiredConns(), "acquired")
	gauge(poolConnections, s.IdleConns(), "idle")
	gauge(poolConnections, s.ConstructingConns(), "constructing")
	gauge(poolMax, s.MaxConns())
	counter(poolAcquires, float64(s.AcquireCount()))
	counter(poolWaits, float64(s.EmptyAcquireCount()))
	counter(poolWaited, s.EmptyAcquireWaitTime().Seconds())
	counter(poolCanceled, float64(s.CanceledAcquireCount()))
}
