package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A site is a server under test whose one handler tells when it has begun and waits to be let go.
type site struct {
	url    string
	begun  chan struct{}
	finish chan struct{}
	stop   context.CancelFunc
	served chan error
}

func start(t *testing.T, patience time.Duration) *site {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	s := &site{
		url:    "http://" + listener.Addr().String(),
		begun:  make(chan struct{}, 1),
		finish: make(chan struct{}),
		stop:   stop,
		served: make(chan error, 1),
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.begun <- struct{}{}
		<-s.finish
		_, _ = io.WriteString(w, "done")
	})
	go func() { s.served <- serve(ctx, listener, handler, patience) }()
	return s
}

type outcome struct {
	body string
	err  error
}

// get sends a request over a connection of its own.
func (s *site) get() <-chan outcome {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	got := make(chan outcome, 1)
	go func() {
		response, err := client.Get(s.url)
		if err != nil {
			got <- outcome{err: err}
			return
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		got <- outcome{string(body), err}
	}()
	return got
}

func TestServeDrains(t *testing.T) {
	t.Parallel()
	s := start(t, time.Minute)
	running := s.get()
	<-s.begun
	s.stop()
	// The listener closes first: once that is so, the drain has begun.
	for {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	close(s.finish)
	if got := <-running; got.err != nil || got.body != "done" {
		t.Errorf("the running request got %+v", got)
	}
	if err := <-s.served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
}

func TestServeCutsOff(t *testing.T) {
	t.Parallel()
	s := start(t, 10*time.Millisecond)
	defer close(s.finish)
	running := s.get()
	<-s.begun
	s.stop()
	if err := <-s.served; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Serve returned %v, want a deadline exceeded", err)
	}
	if got := <-running; got.err == nil {
		t.Errorf("the running request got %+v, want an error", got)
	}
}

func TestServeBoundsHeaders(t *testing.T) {
	t.Parallel()
	s := start(t, time.Minute)
	defer s.stop()
	close(s.finish)
	request, err := http.NewRequest(http.MethodGet, s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Large", strings.Repeat("x", 2*maxHeaderBytes))
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s, want 431", response.Status)
	}
}

func TestServeListenerFails(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	if err := Serve(t.Context(), listener, http.NotFoundHandler()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve returned %v, want that the listener is closed", err)
	}
}
