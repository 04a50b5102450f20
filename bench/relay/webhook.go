package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/webhook"
)

var webhookKind = kind{name: "webhook", rate: 5_000, hotRate: 1_000, inFlight: webhookInFlight, start: startWebhook}

// webhookInFlight is how many requests run at a time. More of them make no receiver faster.
const webhookInFlight = 64

// startWebhook starts a receiver in this process, which reads each request and says that it has it.
func startWebhook(t testing.TB, p *place) {
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(receiver.Close)
	trust := &tls.Config{RootCAs: receiver.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}
	p.reset = func(context.Context) (string, error) { return receiver.URL, nil }
	p.sink = func() (relay.Sink, error) {
		return sinks.New(sinks.Config{
			Endpoint: &sinks.Endpoint{URL: receiver.URL, Unsigned: true, Concurrency: webhookInFlight},
			Allow:    []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, TLS: trust, Logger: systems.Quiet,
		})
	}
	p.bare = func() (client, error) {
		return &webhookClient{url: receiver.URL, http: &http.Client{Transport: &http.Transport{TLSClientConfig: trust, MaxIdleConnsPerHost: webhookInFlight, MaxConnsPerHost: webhookInFlight}}}, nil
	}
}

type webhookClient struct {
	url  string
	http *http.Client
}

func (c *webhookClient) send(ctx context.Context, m *relay.Message, done func(error)) {
	go func() { done(c.post(ctx, m)) }()
}

func (c *webhookClient) post(ctx context.Context, m *relay.Message) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(m.Body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", m.ContentType)
	r.Header.Set("Webhook-Id", m.ID)
	for name, value := range m.Headers {
		r.Header.Set(name, value)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("answered %s", answer.Status)
	}
	return nil
}

func (c *webhookClient) close() { c.http.CloseIdleConnections() }
