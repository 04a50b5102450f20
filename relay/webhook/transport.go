package webhook

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

// tlsFiles are what an endpoint may have of its own.
type tlsFiles struct{ ca, cert, key string }

// transports keeps a transport, with its idle connections, for endpoints with the same files.
type transports struct {
	dialer net.Dialer
	proxy  func(*http.Request) (*url.URL, error)
	tls    *tls.Config
	most   int // requests to one host at the same time

	mu   sync.Mutex
	made map[tlsFiles]*http.Transport
}

func newTransports(cfg Config) *transports {
	t := &transports{
		made: map[tlsFiles]*http.Transport{}, tls: cfg.TLS, dialer: net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second},
		most: cmp.Or(cfg.Concurrency, defaultRequests),
	}
	if cfg.Proxy == nil {
		t.dialer.Control = guard(cfg.Allow)
	} else { // it dials in our place: what it refuses is up to it
		t.proxy = http.ProxyURL(cfg.Proxy)
	}
	return t
}

func (t *transports) of(files tlsFiles) (*http.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if made := t.made[files]; made != nil {
		return made, nil
	}
	cfg, err := files.config(t.tls)
	if err != nil {
		return nil, err
	}
	t.made[files] = &http.Transport{
		Proxy:                  t.proxy,
		DialContext:            t.dialer.DialContext,
		TLSClientConfig:        cfg,
		TLSHandshakeTimeout:    5 * time.Second,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		DisableCompression:     true,
		MaxIdleConns:           max(512, t.most),
		MaxIdleConnsPerHost:    t.most, // with fewer, an endpoint with more requests at a time would connect for most of them
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return t.made[files], nil
}

// renew forgets all transports, so that what is made next reads its files anew. If what is done then fails, it has them back.
func (t *transports) renew(do func() error) error {
	t.mu.Lock()
	made := t.made
	t.made = map[tlsFiles]*http.Transport{}
	t.mu.Unlock()
	err := do()
	if err != nil {
		t.mu.Lock()
		made, t.made = t.made, made
		t.mu.Unlock()
	}
	for _, transport := range made {
		transport.CloseIdleConnections()
	}
	return err
}

func (f tlsFiles) config(base *tls.Config) (*tls.Config, error) {
	cfg := base.Clone() // nil of nil
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("read certificates of the CA: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", f.ca)
		}
	}
	if f.cert != "" {
		read := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(f.cert, f.key)
			if err != nil {
				return nil, fmt.Errorf("read client certificate %s: %w", f.cert, err)
			}
			return &pair, nil
		}
		if _, err := read(nil); err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = read
	}
	return cfg, nil
}

// refused reports whether an error is about an address, and not about the network.
func refused(err error) bool { return errors.Is(err, errRefused) }
