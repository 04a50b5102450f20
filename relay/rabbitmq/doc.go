// Package rabbitmq sends the events of an outbox to exchanges of RabbitMQ, over AMQP 0-9-1.
//
//	sink, err := rabbitmq.New(rabbitmq.Config{URL: "amqp://localhost:5672/", Exchange: "events"})
//
// Messages are persistent and mandatory, and an event is settled when RabbitMQ has confirmed its message. One that no queue takes comes
// back, and becomes a dead letter. The sink declares nothing: exchanges, queues and bindings are those of the application.
//
// # Destinations
//
// With Config.Exchange, a message's Destination is its routing key, whatever is in it. Without, it is "exchange/routing-key", cut at the
// first slash; and without a slash it is the name of a queue, which the default exchange routes to.
//
// docs/relay-rabbitmq.md says what a confirmation means, what repeats, and what a consumer does about it.
package rabbitmq
