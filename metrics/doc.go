// Package metrics tells Prometheus about workers, publishers and the outbox itself.
//
//	m := metrics.New(metrics.Config{Pool: pool})
//	prometheus.MustRegister(m)
//	w, err := worker.New(pool, worker.Config{Hooks: []worker.Hooks{m.Hooks()}})
//
// A [Metrics] has three parts:
//
//	from the worker's hooks and from Published                  counted in this process
//	from the outbox's tables: lag, deliveries, workers          the same in every process; read when somebody scrapes
//	from the pool of connections                                of this process
//
// The metrics with their labels are in docs/metrics.md, beside a dashboard and alert rules.
//
// # Cardinality
//
// Topics and subscriptions are labels; keys and events never are. The first 100 topics of each subscription that a process sees
// have series of their own (Config.MaxTopics), all others are counted under the topic "other".
package metrics
