package rabbitmq_test

import (
	"context"
	"log"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/rabbitmq"
)

// A sink by itself: relays do this for each event. The exchange "events", and a queue bound to it, have to be there.
func Example() {
	sink, err := rabbitmq.New(rabbitmq.Config{URL: "amqp://localhost:5672/", Exchange: "events"})
	if err != nil {
		log.Fatal(err)
	}
	defer sink.Close()

	ctx := context.Background()
	if err := sink.Check(ctx, []string{"orders.placed"}); err != nil {
		log.Fatal(err)
	}
	sink.Send(ctx, &relay.Message{ID: "0197c5f4", Destination: "orders.placed", Body: []byte(`{"total":3}`)}, func(err error) {
		log.Printf("stored: %v", err == nil)
	})
}
