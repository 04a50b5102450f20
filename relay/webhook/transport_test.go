package webhook_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/signalbox-go/signalbox/relay/webhook"
)

// TestKeepsConnections sends as many messages at a time as an endpoint may have requests, again and again: each has a connection, which is kept.
func TestKeepsConnections(t *testing.T) {
	t.Parallel()
	const requests, rounds = 32, 5
	var arrived sync.WaitGroup
	var connections atomic.Int64
	url, ca := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived.Done()
		arrived.Wait() // all of a round are in flight
		w.WriteHeader(http.StatusNoContent)
	}, func(s *httptest.Server) {
		s.EnableHTTP2 = false
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				connections.Add(1)
			}
		}
	})
	s, err := webhook.New(webhook.Config{
		Endpoint: &webhook.Endpoint{URL: url, CAFile: ca, Unsigned: true, Concurrency: requests}, Allow: loopback, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range rounds {
		arrived.Add(requests)
		var answers sync.WaitGroup
		answers.Add(requests)
		for i := range requests {
			m := message("x", fmt.Sprint(i))
			m.Key = m.ID // else they come one after the other
			s.Send(t.Context(), m, func(err error) {
				if err != nil {
					t.Error(err)
				}
				answers.Done()
			})
		}
		answers.Wait()
	}
	if n := connections.Load(); n > 2*requests { // one that was closed at a bad moment is opened anew
		t.Errorf("%d connections for %d requests at a time", n, requests)
	}
}
