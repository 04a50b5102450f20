package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/sinktest"
	"github.com/signalbox-go/signalbox/relay/webhook"
)

// A site has endpoints at one address. It can be stopped, frozen, and fail a request.
type site struct {
	address string

	mu       sync.Mutex
	server   *http.Server
	received map[string][]sinktest.Received // by path
	thawed   chan struct{}                  // closed while it is not frozen
	hiccups  int
}

const siteLimit = 100_000

func (s *site) start(t *testing.T) {
	t.Helper()
	var l net.Listener
	deadline := time.Now().Add(patience)
	for {
		var err error
		if l, err = net.Listen("tcp", s.address); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // its port is still taken by connections that end
	}
	if s.server == nil { // from then on, it is read by those who send
		s.address = l.Addr().String()
	}
	s.server = &http.Server{Handler: http.HandlerFunc(s.take), ReadHeaderTimeout: patience}
	go func() { _ = s.server.Serve(l) }()
}

func (s *site) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	thawed := s.thawed
	s.mu.Unlock()
	select {
	case <-thawed:
	case <-r.Context().Done():
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil || r.Context().Err() != nil:
		return
	case len(body) > siteLimit:
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	case s.hiccups > 0:
		s.hiccups--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	headers := map[string]string{}
	for name := range r.Header {
		headers[name] = r.Header.Get(name)
	}
	s.received[r.URL.Path] = append(s.received[r.URL.Path], sinktest.Received{ID: r.Header.Get("webhook-id"), Headers: headers, Body: body})
}

// TestConformance runs the tests of all sinks.
func TestConformance(t *testing.T) { //nolint:paralleltest // they stop one system
	open := make(chan struct{})
	close(open)
	s := &site{address: "127.0.0.1:0", received: map[string][]sinktest.Received{}, thawed: open}
	s.start(t)
	t.Cleanup(func() { _ = s.server.Close() })
	destinations := 0
	sinktest.Run(t, sinktest.Target{
		New: func(t *testing.T) relay.Sink {
			sink, err := webhook.New(webhook.Config{Allow: loopback, Logger: quiet, Endpoints: func(_ context.Context, name string) (webhook.Endpoint, error) {
				if !strings.HasPrefix(name, "hook-") {
					return webhook.Endpoint{}, webhook.ErrUnknownEndpoint
				}
				return webhook.Endpoint{URL: "http://" + s.address + "/" + name, Unsigned: true, Timeout: 2 * time.Second}, nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			return sink
		},
		Destination: func(*testing.T) string { destinations++; return fmt.Sprint("hook-", destinations) },
		Received: func(_ *testing.T, destination string) []sinktest.Received {
			s.mu.Lock()
			defer s.mu.Unlock()
			return slices.Clone(s.received["/"+destination])
		},
		Unkeyed: true,
		Stop:    func(*testing.T) { _ = s.server.Close() },
		Start:   s.start,
		Freeze: func(*testing.T) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.thawed = make(chan struct{})
		},
		Thaw: func(*testing.T) {
			s.mu.Lock()
			defer s.mu.Unlock()
			close(s.thawed)
		},
		Hiccup: func(*testing.T) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.hiccups++
		},
		TooLarge: siteLimit, Refused: "unknown",
	})
}
