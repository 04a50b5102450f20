package webhook_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/webhook"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is for what happens at once on a machine that has nothing else to do.
const patience = 2 * time.Minute

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func newSecret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return "whsec_" + base64.StdEncoding.EncodeToString(raw)
}

// receiver starts a server with a certificate of a CA of its own, and returns its URL and the CA's file.
func receiver(t testing.TB, handler http.HandlerFunc, change ...func(*httptest.Server)) (url, caFile string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(quiet.Handler(), slog.LevelError) // of handshakes that tests have fail
	for _, c := range change {
		c(server)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
}

// plainReceiver starts a server without TLS, where that is not what a test is about.
func plainReceiver(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// deadURL is where nothing listens.
func deadURL(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// open returns a sink that may reach servers of tests.
func open(t testing.TB, cfg webhook.Config) *webhook.Sink {
	t.Helper()
	cfg.Allow = append(cfg.Allow, loopback...)
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	s, err := webhook.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// byName is a Config with endpoints of these names.
func byName(endpoints map[string]webhook.Endpoint) webhook.Config {
	return webhook.Config{Endpoints: func(_ context.Context, name string) (webhook.Endpoint, error) {
		e, found := endpoints[name]
		if !found {
			return webhook.Endpoint{}, webhook.ErrUnknownEndpoint
		}
		return e, nil
	}}
}

// to is a Config with one endpoint among others that there might be, called "a".
func to(url string) webhook.Config {
	return byName(map[string]webhook.Endpoint{"a": {URL: url, Unsigned: true}})
}

// send sends a message and returns its answer.
func send(t testing.TB, s *webhook.Sink, m *relay.Message) error {
	t.Helper()
	answer := make(chan error, 2)
	s.Send(t.Context(), m, func(err error) { answer <- err })
	select {
	case err := <-answer:
		return err
	case <-time.After(patience):
		t.Fatal("no answer")
		return nil
	}
}

func message(destination, id string) *relay.Message {
	return &relay.Message{ID: id, Destination: destination, ContentType: "application/json", Body: []byte(`{"id":"` + id + `"}`), Attempt: 1}
}

// says reports whether an answer is of a kind, as package worker names it: "" for none.
func says(err error, kind string) bool {
	if kind == "" || err == nil {
		return err == nil && kind == ""
	}
	return strings.Contains(err.Error(), kind)
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// certificate makes a certificate of "signalbox", and returns its files.
func certificate(t testing.TB) (certFile, keyFile string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signalbox"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))),
		write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
}
