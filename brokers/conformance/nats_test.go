package conformance_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	broker "github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/nats"
	"github.com/signalbox-go/signalbox/relay/sinktest"
)

func TestNATS(t *testing.T) { //nolint:paralleltest // they stop one server
	const largest = 64 << 10
	server := broker.StartProcess(t, fmt.Sprintf("max_payload: %d", largest))
	conn, err := nats.Connect(server.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	orders, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	if err != nil {
		t.Fatal(err)
	}
	destinations, read := 0, uint64(0)
	stored := map[string][]sinktest.Received{} // by subject, as far as it was read
	sinktest.Run(t, sinktest.Target{
		New: func(t *testing.T) relay.Sink {
			sink, err := sinks.New(sinks.Config{URL: server.URL(), Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return sink
		},
		Destination: func(*testing.T) string { destinations++; return fmt.Sprint("orders.", destinations) },
		Received: func(t *testing.T, destination string) []sinktest.Received {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for {
				info, err := orders.Info(ctx)
				for err == nil && read < info.State.LastSeq {
					var m *jetstream.RawStreamMsg
					if m, err = orders.GetMsg(ctx, read+1); err == nil {
						read++
						headers := map[string]string{}
						for name := range m.Header {
							headers[name] = m.Header.Get(name)
						}
						stored[m.Subject] = append(stored[m.Subject], sinktest.Received{ID: m.Header.Get("Nats-Msg-Id"), Headers: headers, Body: m.Data})
					}
				}
				if err == nil {
					return slices.Clone(stored[destination])
				}
				if ctx.Err() != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Millisecond) // it connects again
			}
		},
		Unkeyed: true,
		Stop:    func(*testing.T) { server.Kill() },
		Start:   func(t *testing.T) { server.Restart(t) },
		Freeze:  func(t *testing.T) { server.Freeze(t) },
		Thaw:    func(*testing.T) { server.Thaw() },
		// The stream takes no other subjects.
		TooLarge: largest, Missing: "elsewhere.a",
	})
}
