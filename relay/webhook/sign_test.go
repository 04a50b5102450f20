package webhook_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/signalbox-go/signalbox/internal/needs"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/webhook"
)

// A received request, as the verifiers take it.
type received struct {
	Body    string            `json:"body"`
	Headers map[string]string `json:"headers"`
	header  http.Header
}

// deliver sends a message over TLS, and returns what the receiver got.
func deliver(t *testing.T, e webhook.Endpoint, m *relay.Message) received {
	t.Helper()
	var got received
	url, ca := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.ProtoMajor != 2 {
			t.Errorf("over %s", r.Proto)
		}
		got = received{Body: string(body), Headers: map[string]string{}, header: r.Header}
		for name := range r.Header {
			got.Headers[strings.ToLower(name)] = r.Header.Get(name)
		}
	})
	e.URL, e.CAFile = url, ca
	m.Destination = "a"
	if err := send(t, open(t, byName(map[string]webhook.Endpoint{"a": e})), m); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestSignatures verifies with the reference library, in Go and in JavaScript, as receivers do.
func TestSignatures(t *testing.T) {
	t.Parallel()
	older, newer, other := newSecret(), newSecret(), newSecret()
	got := deliver(t, webhook.Endpoint{Secrets: []webhook.Secret{webhook.NewSecret(newer), webhook.NewSecret(older)}}, &relay.Message{
		ID: "01989e6c-4bb4-7a3d-8f00-000000000001", ContentType: "application/json", Body: []byte(`{"größe": "ÿ  1"}`),
	})
	for name, test := range map[string]struct {
		secret   string
		body     string
		verifies bool
	}{
		"newer":        {newer, got.Body, true},
		"older":        {older, got.Body, true},
		"another":      {other, got.Body, false},
		"another body": {newer, got.Body + " ", false},
	} {
		t.Run("Go "+name, func(t *testing.T) {
			t.Parallel()
			hook, err := standardwebhooks.NewWebhook(test.secret)
			if err != nil {
				t.Fatal(err)
			}
			if err := hook.Verify([]byte(test.body), got.header); (err == nil) != test.verifies {
				t.Error(err)
			}
		})
	}
	t.Run("JavaScript", func(t *testing.T) {
		t.Parallel()
		node, npm := needs.Program(t, "apt-get install nodejs", "node"), needs.Program(t, "apt-get install npm", "npm")
		folder := t.TempDir()
		if err := os.CopyFS(folder, os.DirFS(filepath.Join("testdata", "verify"))); err != nil {
			t.Fatal(err)
		}
		install := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		install.Dir = folder
		if out, err := install.CombinedOutput(); err != nil {
			needs.Lacks(t, "npm's registry", "let npm reach one: "+lastLine(out))
		}
		for _, test := range []struct {
			secret string
			body   string
			want   string
		}{{newer, got.Body, "verified"}, {older, got.Body, "verified"}, {other, got.Body, "No matching signature found"}, {newer, got.Body + " ", "No matching signature found"}} {
			input, err := json.Marshal(map[string]any{"secret": test.secret, "body": test.body, "headers": got.Headers})
			if err != nil {
				t.Fatal(err)
			}
			verify := exec.CommandContext(t.Context(), node, "verify.mjs")
			verify.Dir, verify.Stdin = folder, strings.NewReader(string(input))
			if out, err := verify.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != test.want {
				t.Errorf("%v: %s, want %s", err, out, test.want)
			}
		}
	})
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	got := deliver(t, webhook.Endpoint{Unsigned: true, Headers: map[string]webhook.Secret{"Authorization": webhook.NewSecret("Bearer x")}}, &relay.Message{
		ID: "1", ContentType: "application/cloudevents+json", Body: nil,
		Headers: map[string]string{
			"ce_type": "orders.created", "traceparent": "00-1-2-01", "Tenant": "größe\r\nX-Evil: 1", "a b": "c",
			"Host": "evil", "content-length": "7", "Webhook-Id": "evil", "webhook-signature": "v1,evil", "authorization": "evil", "Connection": "close",
		},
	})
	want := map[string]string{
		"ce-type": "orders.created", "traceparent": "00-1-2-01", "tenant": "gr%C3%B6%C3%9Fe%0D%0AX-Evil: 1", "a%20b": "c",
		"webhook-id": "1", "authorization": "Bearer x", "content-type": "application/cloudevents+json", "content-length": "4",
	}
	for name, value := range want {
		if got.Headers[name] != value {
			t.Errorf("%s is %q, want %q", name, got.Headers[name], value)
		}
	}
	if got.Body != "null" {
		t.Errorf("the body of a tombstone is %q", got.Body)
	}
	if _, signed := got.Headers["webhook-signature"]; signed {
		t.Error("it is signed")
	}
}

func TestLookupFails(t *testing.T) {
	t.Parallel()
	s := open(t, webhook.Config{Endpoints: func(context.Context, string) (webhook.Endpoint, error) {
		return webhook.Endpoint{}, io.ErrUnexpectedEOF
	}})
	if err := send(t, s, message("a", "1")); !says(err, `look up endpoint "a": unexpected EOF`) || says(err, "dead letter") {
		t.Error(err)
	}
}
