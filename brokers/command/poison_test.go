package command_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/signalbox-go/signalbox/brokers/drive"
	broker "github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// TestPoison publishes an event that the stream refuses for its size: it becomes one dead letter with the broker's reason, after one attempt, and what
// its key and others have goes on. When the limit was raised, the command retries it, and it arrives.
func TestPoison(t *testing.T) {
	t.Parallel()
	c := build(t)
	server := broker.Start(t, "")
	orders := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, MaxMsgSize: 2000}
	to := stream(t, server, orders)
	r := c.relay(t, "--to", server.URL(), "--subscription", "to-nats", "--topics", "orders.>")
	var others []string
	for n := range 20 {
		others = append(others, c.publish(t, "orders.placed", fmt.Sprint("key-", n%4), "1").UID)
	}
	poison := c.publish(t, "orders.placed", "key-1", `"`+strings.Repeat("x", 3000)+`"`)
	for n := range 20 {
		others = append(others, c.publish(t, "orders.placed", fmt.Sprint("key-", n%4), "2").UID)
	}
	drive.Until(t, "all others are stored", func() bool { return len(stored(t, to)) == len(others) })
	ids := stored(t, to)
	slices.Sort(ids)
	if slices.Sort(others); !slices.Equal(ids, others) {
		t.Errorf("stored are %d, others %d", len(ids), len(others))
	}
	var dead struct{ Deliveries []admin.Delivery }
	drive.Until(t, "it is a dead letter", func() bool {
		c.show(t, &dead, "deliveries", "list", "-s", "to-nats")
		return len(dead.Deliveries) > 0
	})
	const reason = "message size exceeds maximum allowed"
	d := dead.Deliveries[0]
	if len(dead.Deliveries) != 1 || d.Event.UID != poison.UID || d.State != "dead" || d.Attempt != 1 || len(d.Failures) != 1 || !strings.Contains(d.Failures[0].Error, reason) {
		t.Fatalf("%d dead letters, the first after %d attempts: %+v", len(dead.Deliveries), d.Attempt, d.Failures)
	}
	if said := r.lines(`"ERROR"`); len(said) != 1 || !strings.Contains(said[0], reason) || !strings.Contains(said[0], poison.UID) {
		t.Errorf("it says:\n%s", strings.Join(said, "\n"))
	}

	orders.MaxMsgSize = 10_000
	to = stream(t, server, orders)
	if _, diagnostics, code := c.run(t, nil, "deliveries", "retry", "-s", "to-nats", "--id", fmt.Sprint(poison.ID)); code != 0 {
		t.Fatalf("exit code %d, %s", code, diagnostics)
	}
	drive.Until(t, "it is stored", func() bool { return slices.Contains(stored(t, to), poison.UID) })
	drive.Until(t, "no delivery is left", func() bool { return c.number(t, `select count(*) from outbox.deliveries`) == 0 })
	if n := len(stored(t, to)); n != len(others)+1 {
		t.Errorf("stored are %d", n)
	}
}
