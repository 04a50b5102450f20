package webhook_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/signalbox-go/signalbox/relay/webhook"
)

// TestAddressesAreRefused sends to names and addresses that lead to a server on this machine, with a sink that may not.
func TestAddressesAreRefused(t *testing.T) {
	t.Parallel()
	open := plainReceiver(t, func(http.ResponseWriter, *http.Request) { t.Error("a message arrived") })
	port := open[strings.LastIndex(open, ":"):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "169.254.169.254", "[fd00:ec2::254]"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			for _, scheme := range []string{"http", "https"} {
				cfg := to(scheme + "://" + host + port)
				cfg.Logger = quiet
				s, err := webhook.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				err = send(t, s, message("a", "1"))
				if resolved := !says(err, "no such host"); resolved && (!says(err, "dead letter: ") || !says(err, "is private, local or reserved: allow it")) {
					t.Error(err)
				}
				if err := s.Check(t.Context(), []string{"a"}); err == nil {
					t.Error("Check is content")
				}
			}
		})
	}
}

// TestProxyIsAskedFor sends to where a proxy leads, and to where it does not.
func TestProxyIsAskedFor(t *testing.T) {
	t.Parallel()
	var proxied atomic.Int64
	proxy := plainReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		proxied.Add(1)
		if r.URL.Host != "receiver.example" {
			t.Errorf("the proxy is asked for %s", r.URL)
		}
	})
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	cfg := to("http://receiver.example/hook")
	cfg.Proxy = u
	if err := send(t, open(t, cfg), message("a", "1")); err != nil || proxied.Load() != 1 {
		t.Errorf("%v, %d requests at the proxy", err, proxied.Load())
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	url, ca := receiver(t, func(http.ResponseWriter, *http.Request) {})
	for name, test := range map[string]struct{ ca, says string }{
		"own CA":   {ca, ""},
		"system's": {"", "certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, byName(map[string]webhook.Endpoint{"a": {URL: url, Unsigned: true, CAFile: test.ca}}))
			err := send(t, s, message("a", "1"))
			if !says(err, test.says) || err != nil && !says(err, "snoozed") {
				t.Error(err)
			}
			if err := s.Check(t.Context(), []string{"a"}); !says(err, test.says) {
				t.Error("Check:", err)
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	var seen atomic.Int64
	url, ca := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 1 && r.TLS.PeerCertificates[0].Subject.CommonName == "signalbox" {
			seen.Add(1)
		}
	}, func(server *httptest.Server) { server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert} })
	s := open(t, byName(map[string]webhook.Endpoint{
		"a": {URL: url, Unsigned: true, CAFile: ca, CertFile: cert, KeyFile: key},
		"b": {URL: url, Unsigned: true, CAFile: ca},
	}))
	if err := send(t, s, message("a", "1")); err != nil || seen.Load() != 1 {
		t.Errorf("%v, seen %d times", err, seen.Load())
	}
	if err := send(t, s, message("b", "1")); err == nil {
		t.Error("it is taken without a certificate")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	url, ca := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		t.Error("Check sends something")
	})
	s := open(t, byName(map[string]webhook.Endpoint{
		"fine":   {URL: url, Unsigned: true, CAFile: ca},
		"dead":   {URL: deadURL(t), Unsigned: true},
		"noname": {URL: "https://no-such-host.invalid/secret-path", Unsigned: true},
		"wrong":  {URL: url},
	}))
	if err := s.Check(t.Context(), []string{"fine", "fine"}); err != nil {
		t.Error(err)
	}
	err := s.Check(t.Context(), []string{"wrong", "noname", "fine", "dead", "unknown"})
	if err == nil {
		t.Fatal("it is content")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{`endpoint "dead": connect: `, `endpoint "noname": connect: `, `endpoint "unknown": unknown endpoint`, `endpoint "wrong": it has no secret`} {
		if i >= len(lines) || !strings.Contains(lines[i], want) {
			t.Errorf("line %d lacks %s:\n%v", i, want, err)
		}
	}
	if len(lines) != 4 || strings.Contains(err.Error(), "secret-path") {
		t.Error(err)
	}
}
