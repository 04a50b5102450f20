package kafka_test

import (
	"context"
	"fmt"
	"log"
	"net/url"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/kafka"
)

// A sink by itself. A relay calls Send for each event, and settles those that were acknowledged.
func Example() {
	address, err := url.Parse("kafka://relay@broker1:9093,broker2:9093?tls=true&sasl=SCRAM-SHA-512&password-file=/run/secrets/kafka")
	if err != nil {
		log.Fatal(err)
	}
	config, err := kafka.FromURL(address)
	if err != nil {
		log.Fatal(err)
	}
	sink, err := kafka.New(config)
	if err != nil {
		log.Fatal(err)
	}
	defer sink.Close()

	ctx := context.Background()
	if err := sink.Check(ctx, []string{"orders"}); err != nil {
		log.Fatal(err)
	}
	acknowledged := make(chan error, 1)
	sink.Send(ctx, &relay.Message{
		ID:          "01900000-0000-7000-8000-000000000001",
		Destination: "orders",
		Key:         "order-1",
		Headers:     map[string]string{"ce_id": "01900000-0000-7000-8000-000000000001"},
		Body:        []byte(`{"total": 12}`),
	}, func(err error) { acknowledged <- err })
	fmt.Println(<-acknowledged)
}
