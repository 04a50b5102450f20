package worker_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// TestService runs the service of the example on an empty database.
func TestService(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewEmpty(t).Pool
	if _, err := pool.Exec(t.Context(), `create schema shop; create table shop.ledger (order_id text primary key, total integer)`); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, pool, listener) }()
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	get := func(path, user string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-User", user)
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}

	eventually(t, 20*time.Second, "it is ready", func() bool { code, _ := get("/readyz", ""); return code == http.StatusOK })
	event, err := outbox.NewEvent("orders.placed", "A-17", placed{ID: "A-17", Total: 4200})
	if err != nil {
		t.Fatal(err)
	}
	published, err := outbox.Publish(t.Context(), pool, event)
	if err != nil {
		t.Fatal(err)
	}
	for _, subscription := range []string{"confirmations", "ledger"} {
		awaitFate(t, pool, published[0].ID, subscription, admin.FateDelivered)
	}
	if code, body := get("/metrics", ""); code != http.StatusOK || !strings.Contains(body, `signalbox_delivered_total{outbox="outbox",subscription="ledger",topic="orders.placed"} 1`) {
		t.Errorf("/metrics answered %d %s", code, body)
	}
	if code, _ := get("/ops/outbox/", "guest"); code != http.StatusForbidden {
		t.Errorf("the dashboard let a guest in: %d", code)
	}
	if code, body := get("/ops/outbox/", "admin"); code != http.StatusOK || !strings.Contains(body, "confirmations") {
		t.Errorf("the dashboard answered %d %s", code, body)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
