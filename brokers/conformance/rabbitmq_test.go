package conformance_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	broker "github.com/signalbox-go/signalbox/brokers/rabbitmq"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/rabbitmq"
	"github.com/signalbox-go/signalbox/relay/sinktest"
)

func TestRabbitMQ(t *testing.T) { //nolint:paralleltest // they stop one server
	const largest = 50_000
	server := broker.Start(t, broker.Config{Text: fmt.Sprintf("max_message_size = %d", largest)})
	// A server that is killed may have forgotten what was declared just before. So it has all queues from the beginning.
	const most = 40
	for n := range most {
		within(t, server, func(c *amqp.Channel) error {
			_, err := c.QueueDeclare(queue(n+1), true, false, false, false, nil)
			return err
		})
	}
	server.Stop(t)
	server.Restart(t)
	queues := 0
	taken := map[string][]sinktest.Received{} // by queue
	sinktest.Run(t, sinktest.Target{
		New: func(t *testing.T) relay.Sink {
			sink, err := sinks.New(sinks.Config{URL: server.URL()})
			if err != nil {
				t.Fatal(err)
			}
			return sink
		},
		Destination: func(t *testing.T) string { // a queue, which the default exchange routes to
			if queues++; queues > most {
				t.Fatal("there are no more queues: declare more")
			}
			return queue(queues)
		},
		Received: func(t *testing.T, name string) []sinktest.Received {
			within(t, server, func(c *amqp.Channel) error {
				for {
					d, more, err := c.Get(name, true)
					if err != nil || !more {
						return err
					}
					m := sinktest.Received{ID: d.MessageId, Headers: map[string]string{}, Body: d.Body}
					for name, value := range d.Headers {
						m.Headers[name] = fmt.Sprint(value)
					}
					taken[name] = append(taken[name], m)
				}
			})
			return slices.Clone(taken[name])
		},
		Unkeyed:  true,
		Stop:     func(*testing.T) { server.Kill() },
		Start:    func(t *testing.T) { server.Restart(t) },
		Freeze:   func(t *testing.T) { server.Freeze(t) },
		Thaw:     func(*testing.T) { server.Thaw() },
		TooLarge: largest, Missing: "no-exchange/a", Refused: "no-queue",
	})
}

func queue(n int) string { return fmt.Sprint("queue-", n) }

// within does something over a channel of its own, again until it succeeds.
func within(t *testing.T, server *broker.Server, do func(*amqp.Channel) error) {
	t.Helper()
	once := func() error {
		conn, err := amqp.DialConfig("amqp://guest:guest@"+server.Address+"/", amqp.Config{})
		if err != nil {
			return err
		}
		defer conn.Close()
		c, err := conn.Channel()
		if err != nil {
			return err
		}
		return do(c)
	}
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) { // the server may be about to serve
		err := once()
		if err == nil {
			return
		}
		if time.Since(start) > time.Minute {
			t.Fatal(err)
		}
	}
}
