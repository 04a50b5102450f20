// Package relay sends the events of an outbox to message brokers and webhooks.
//
//	sink, err := nats.New(nats.Config{URL: "nats://localhost:4222"})
//	w, err := worker.New(pool, worker.Config{})
//	err = relay.Handle(w, worker.Subscription{Name: "to-nats", Topics: []string{"orders.>"}}, sink, relay.Config{Source: "https://shop.example/orders"})
//	err = w.Run(ctx)
//
// A relay is a subscription whose handler is a [Sink]: packages relay/kafka, relay/nats, relay/rabbitmq and relay/webhook have one each, and
// only they link the clients. An event is settled when the sink's system has acknowledged its message: no event is lost, a repeated message
// has the same ID, and the messages of a key arrive in order. docs/relay.md has the guarantees of each sink.
//
// A [Router] says where an event goes, and an [Encoding] how it is written: as a CloudEvent, or unchanged.
package relay
