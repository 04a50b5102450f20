package webhook_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/signalbox-go/signalbox/relay/webhook"
)

// TestSecretIsRotated replaces a secret as the documentation says: at each moment, the receiver has one that verifies.
func TestSecretIsRotated(t *testing.T) {
	t.Parallel()
	older, newer := newSecret(), newSecret()
	verifier := func(secret string) *standardwebhooks.Webhook {
		v, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	var receives atomic.Pointer[standardwebhooks.Webhook]
	receives.Store(verifier(older))
	var signatures, wrong atomic.Int64
	hooks := plainReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || receives.Load().Verify(body, r.Header) != nil {
			wrong.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		signatures.Store(int64(len(strings.Fields(r.Header.Get("webhook-signature")))))
	})
	content := func(secrets ...string) string {
		return fmt.Sprintf("endpoints: {a: {url: %s, secrets: [%s]}}", hooks, strings.Join(secrets, ", "))
	}
	path := write(t, "endpoints.yaml", content(older))
	s := open(t, webhook.Config{File: path})
	change := func(n int64, secrets ...string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content(secrets...)), 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the change is seen", func() bool {
			if err := send(t, s, message("a", "1")); err != nil {
				t.Fatal(err)
			}
			return signatures.Load() == n
		})
	}
	change(2, newer, older)
	receives.Store(verifier(newer))
	change(1, newer)
	if wrong.Load() > 0 {
		t.Errorf("%d messages do not verify", wrong.Load())
	}
}

// TestEndpointIsRemoved removes an endpoint that is down, and for which messages wait: they become dead letters, and are sent once it is
// there again.
func TestEndpointIsRemoved(t *testing.T) {
	t.Parallel()
	hooks := plainReceiver(t, func(http.ResponseWriter, *http.Request) {})
	other := "endpoints: {b: {unsigned: true, url: " + hooks + "}"
	path := write(t, "endpoints.yaml", other+", a: {unsigned: true, url: "+deadURL(t)+"}}")
	s := open(t, webhook.Config{File: path})
	for i := range 3 {
		if err := send(t, s, message("a", fmt.Sprint(i))); !says(err, "snoozed for ") {
			t.Fatal(err)
		}
	}
	answers := func(text, want string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the change is seen", func() bool {
			err := send(t, s, message("a", "0"))
			if err != nil && !says(err, "snoozed for ") && !says(err, "dead letter") {
				t.Fatal(err)
			}
			return says(err, want)
		})
		if err := send(t, s, message("b", "1")); err != nil {
			t.Error("another endpoint:", err)
		}
	}
	answers(other+"}", "unknown endpoint in ")
	answers(other+", a: {unsigned: true, url: "+hooks+"}}", "")
}

// TestCertificatesAreMissing has files of certificates go while they are replaced: no message becomes a dead letter of it.
func TestCertificatesAreMissing(t *testing.T) {
	t.Parallel()
	url, ca := receiver(t, func(http.ResponseWriter, *http.Request) {})
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "ca.pem")
	e := webhook.Endpoint{URL: url, Unsigned: true, CAFile: moved}
	s := open(t, byName(map[string]webhook.Endpoint{"a": e}))
	for _, text := range []string{"", "-----BEGIN CERT"} { // not there, and half written
		if text != "" {
			if err := os.WriteFile(moved, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := send(t, s, message("a", "1")); !says(err, `endpoint "a": its certificates cannot be used: `) || says(err, "dead letter") {
			t.Error(err)
		}
	}
	if err := os.WriteFile(moved, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := send(t, s, message("a", "1")); err != nil {
		t.Error(err)
	}

	content := "endpoints: {a: {unsigned: true, url: " + url + ", ca_file: " + ca + "}}"
	path := write(t, "endpoints.yaml", content)
	s = open(t, webhook.Config{File: path})
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is not valid", func() bool { return s.Status().FailedReads == 1 })
	if err := send(t, s, message("a", "2")); err != nil {
		t.Error("after a file that is not valid:", err)
	}
}

// rawReceiver answers each connection in its own way.
func rawReceiver(t *testing.T, answer func(conn net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				request, err := http.ReadRequest(bufio.NewReader(conn))
				if err == nil {
					_, err = io.Copy(io.Discard, request.Body)
				}
				if err == nil {
					answer(conn)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Wait()
	})
	return "http://" + l.Addr().String()
}

// repeat writes a text for as long as the other side reads it.
func repeat(conn net.Conn, text string, pause time.Duration) {
	for {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

// TestHostileAnswers has receivers answer in ways that would hold a request, or its memory, for ever. Each is an attempt that failed.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	const timeout = 4 * time.Second // what has no end takes as long; a busy machine may take long to read the rest
	for name, test := range map[string]struct {
		answer func(net.Conn)
		says   string
	}{
		"headers byte by byte": {func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-Slow: ")
			repeat(conn, "x", 20*time.Millisecond)
		}, "no answer within "},
		"headers without end": {func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			repeat(conn, "X-Long: "+strings.Repeat("x", 1000)+"\r\n", 0)
		}, "exceed"},
		"early hints without end": {func(conn net.Conn) { repeat(conn, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0) }, ""},
		"no HTTP":                 {func(conn net.Conn) { _, _ = io.WriteString(conn, "220 mail.example ESMTP\r\n") }, "malformed HTTP"},
		"half a status":           {func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 20") }, "malformed HTTP"},
		"nothing":                 {func(net.Conn) {}, "EOF"},
		"another protocol": {func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
			repeat(conn, "x", 20*time.Millisecond)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := rawReceiver(t, test.answer)
			s := open(t, byName(map[string]webhook.Endpoint{"a": {URL: url, Unsigned: true, Timeout: timeout}}))
			err := send(t, s, message("a", "1"))
			if err == nil || !strings.Contains(err.Error(), test.says) || len(err.Error()) > 700 {
				t.Errorf("%v, want %s", err, test.says)
			}
			if says(err, "dead letter") && name != "another protocol" {
				t.Errorf("it is no attempt that failed: %v", err)
			}
		})
	}
}

// TestGoAway has a receiver end its HTTP/2 connections all the time, as load balancers do: every message arrives, and in its order.
func TestGoAway(t *testing.T) {
	t.Parallel()
	const lines, perLine = 20, 15
	arrived := &ledger{lines: map[string][]string{}}
	url, ca := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("over %s", r.Proto)
		}
		w.Header().Set("Connection", "close") // GOAWAY, and no further request over this connection
		arrived.note(r)
	})
	s := open(t, byName(map[string]webhook.Endpoint{"a": {URL: url + "/a", Unsigned: true, CAFile: ca, Concurrency: lines}}))
	var senders sync.WaitGroup
	for k := range lines {
		senders.Go(func() {
			for i := range perLine {
				m := message("a", fmt.Sprint(i))
				m.Key = fmt.Sprint("k", k)
				m.Headers = map[string]string{"key": m.Key}
				for err := errors.New("not sent"); err != nil; {
					if err = send(t, s, m); says(err, "dead letter") {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	senders.Wait()
	for k := range lines {
		next := 0
		for _, id := range arrived.lines[fmt.Sprint("/a k", k)] { // one whose answer is lost comes again
			if id == fmt.Sprint(next) {
				next++
			} else if id != fmt.Sprint(next-1) {
				t.Errorf("k%d got %s after %d", k, id, next-1)
			}
		}
		if next != perLine {
			t.Errorf("k%d got %d of %d", k, next, perLine)
		}
	}
}

// TestSlowEndpointsFillNothing has more endpoints that never answer than the sink has room for: what is sent to them comes back, and a
// message to another one does not wait for them.
func TestSlowEndpointsFillNothing(t *testing.T) {
	t.Parallel()
	const slow, each = 60, 30
	url, _, _ := blocked(t)
	fine := plainReceiver(t, func(http.ResponseWriter, *http.Request) {})
	s := open(t, webhook.Config{Endpoints: func(_ context.Context, name string) (webhook.Endpoint, error) {
		e := webhook.Endpoint{URL: url + "/" + name, Unsigned: true, Concurrency: 1, Timeout: patience}
		if name == "fine" {
			e.URL = fine
		}
		return e, nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun, most := time.Now(), 0
	for i := range each {
		for k := range slow {
			m := message(fmt.Sprint("slow", k), fmt.Sprint(i))
			m.Key = m.ID
			s.Send(ctx, m, func(error) {})
			most = max(most, s.Status().Waiting)
		}
	}
	if err := send(t, s, message("fine", "1")); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > patience/2 || most > 513 {
		t.Errorf("it took %v, and %d messages waited", took, most)
	}
}
