// Package metrics exports metrics of workers, publishers and the outbox itself to Prometheus.
//
//	m := metrics.New(metrics.Config{Pool: pool})
//	prometheus.MustRegister(m)
//	w, err := worker.New(pool, worker.Config{Hooks: []worker.Hooks{m.Hooks()}})
//
// A [Metrics] has three parts:
//
//	from the worker's hooks and from Published                  counted in this process
//	from the outbox's tables: lag, deliveries, workers          the same in every process; read when it is scraped
//	from the pool of connections                                of this process
//
// docs/metrics.md lists the metrics with their labels, and has a Grafana dashboard and alert rules.
//
// # Cardinality
//
// Topics and subscriptions are labels; keys and events never are. The first Config.MaxTopics topics of each subscription that a process
// sees have series of their own. All other topics are counted together, as topic "other".
package metrics
