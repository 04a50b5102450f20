package command_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/signalbox-go/signalbox/brokers/drive"
	broker "github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// outageFor is how long a broker is away. SIGNALBOX_OUTAGE has another duration.
func outageFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SIGNALBOX_OUTAGE")
	if text == "" {
		return 5 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestOutage kills a broker while events are published, and starts it again later: only its own relay lags, no event is a dead letter, no attempt
// is used up, and status, metrics and one line each way say so.
func TestOutage(t *testing.T) {
	t.Parallel()
	c := build(t)
	away, there := broker.StartProcess(t, ""), broker.Start(t, "")
	orders := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}}
	to, other := stream(t, away, orders), stream(t, there, orders)
	config := filepath.Join(t.TempDir(), "relays.yaml")
	err := os.WriteFile(config, []byte(fmt.Sprintf(`relays:
  - {subscription: away, topics: [orders.>], to: "%s"}
  - {subscription: there, topics: [orders.>], to: "%s"}
`, away.URL(), there.URL())), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r := c.relay(t, "--config", config, "--admin", "127.0.0.1:0")
	var published []string
	publish := func(n int) {
		events := make([]outbox.Event, 10)
		for i := range events {
			events[i] = outbox.Event{Topic: "orders.placed", Key: fmt.Sprint((10*n + i) % 1000), Payload: []byte("1")}
		}
		events, err := outbox.Publish(t.Context(), c.db.Pool, events...)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			published = append(published, e.UID)
		}
	}
	for n := range 300 { // the broker is killed while some are in flight
		publish(n)
	}
	drive.Until(t, "some are stored", func() bool { info, err := to.Info(t.Context()); return err == nil && info.State.Msgs > 500 })
	away.Kill()
	began := time.Now()
	for n := 0; time.Since(began) < outageFor(t); n++ {
		publish(n)
		time.Sleep(20 * time.Millisecond) // the rate: 500 a second
	}
	var status admin.Status
	drive.Until(t, "the status says it", func() bool {
		c.show(t, &status, "status")
		return slices.ContainsFunc(status.Concerns, func(c admin.Concern) bool { return c.Kind == admin.ConcernBreaker && c.Subscription == "away" }) &&
			status.Subscriptions[1].Lag.Events == 0
	})
	lags := status.Subscriptions[0]
	if f := lags.LastFailure; f == nil || !strings.Contains(f.Error, "not connected to") || strings.Contains(f.Error, "\n") {
		t.Errorf("the last failure is %+v", f)
	}
	if lags.SendsTo != away.URL() || len(status.Concerns) != 1+len(blocked(status.Concerns)) {
		t.Errorf("sends to %q, concerns %+v", lags.SendsTo, status.Concerns)
	}
	if text := metricsOf(t, r); !strings.Contains(text, `signalbox_breaker_open{outbox="outbox",subscription="away",topic=""} 1`) || !strings.Contains(text, `signalbox_breaker_open{outbox="outbox",subscription="there",topic=""} 0`) ||
		!strings.Contains(text, `kind="outage"`) {
		t.Errorf("the metrics do not tell of the outage:\n%s", text)
	}
	if used := c.number(t, `select coalesce(max(attempt), 0) from outbox.deliveries where state <> 'running'`); used != 0 {
		t.Errorf("%d attempts were used up", used)
	}

	away.Restart(t)
	back := time.Now()
	drive.Until(t, "all is stored", func() bool {
		info, err := to.Info(t.Context())
		return err == nil && info.State.Msgs == uint64(len(published)) && len(stored(t, to)) == len(published)
	})
	if took := time.Since(back); took > time.Minute {
		t.Errorf("drained after %v", took)
	}
	for _, ids := range [][]string{stored(t, to), stored(t, other)} {
		slices.Sort(ids)
		if slices.Sort(published); !slices.Equal(ids, published) {
			t.Errorf("stored are %d, published %d", len(ids), len(published))
		}
	}
	drive.Until(t, "it says that it is over", func() bool { return len(r.lines("attempts succeed again")) > 0 })
	if n := c.number(t, `select count(*) from outbox.deliveries`); n != 0 {
		t.Errorf("%d deliveries are left", n)
	}
	if said := r.lines("reading little"); len(said) != 1 {
		t.Errorf("it says:\n%s", strings.Join(said, "\n"))
	}
	// What was in flight is not known to have arrived: that is said, in a line a second at most.
	for _, line := range r.lines("event failed", `"ERROR"`) {
		if !strings.Contains(line, "the connection was lost before the answer") {
			t.Errorf("it says beside:\n%s", line)
		}
	}
	if over := r.lines("attempts succeed again"); len(over) != 1 {
		t.Errorf("it says:\n%s", strings.Join(over, "\n"))
	}
}

// blocked are those concerns that come with an outage: events behind others of their keys.
func blocked(list []admin.Concern) (found []admin.Concern) {
	for _, c := range list {
		if c.Kind == admin.ConcernBlocked {
			found = append(found, c)
		}
	}
	return found
}

// metricsOf reads what the relay tells Prometheus.
func metricsOf(t *testing.T, r *relaying) string {
	t.Helper()
	line := r.lines("admin")
	if len(line) == 0 {
		t.Fatal("the log has no admin address")
	}
	at := strings.Index(line[0], "127.0.0.1:")
	if at < 0 {
		t.Fatal(line[0])
	}
	address := strings.FieldsFunc(line[0][at:], func(c rune) bool { return c == ' ' || c == '"' })[0]
	response, err := http.Get("http://" + address + "/metrics") //nolint:noctx // ends with the test
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
