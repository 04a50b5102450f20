package webhook_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/signalbox-go/signalbox/relay/webhook"
)

func TestFile(t *testing.T) {
	t.Parallel()
	one, two := newSecret(), newSecret()
	var mu sync.Mutex
	headers := map[string]http.Header{}
	hooks := plainReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		headers[r.URL.Path] = r.Header
		mu.Unlock()
	})
	for name, text := range map[string]string{
		"YAML": fmt.Sprintf(`
defaults:
  secrets: [%s]
  timeout: 20s
  headers: {X-From: signalbox, X-Kind: default}
endpoints:
  acme: {url: %s/acme}
  umbrella:
    url: %s/umbrella
    secrets: [%s, %s]
    concurrency: 2
    headers: {X-Kind: own}
`, one, hooks, hooks, two, one),
		"JSON": fmt.Sprintf(`{"defaults": {"secrets": [%q], "timeout": "20s", "headers": {"X-From": "signalbox", "X-Kind": "default"}},
			"endpoints": {"acme": {"url": "%s/acme"}, "umbrella": {"url": "%s/umbrella", "secrets": [%q, %q], "headers": {"X-Kind": "own"}}}}`,
			one, hooks, hooks, two, one),
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, webhook.Config{File: write(t, "endpoints", text)})
			for _, name := range []string{"acme", "umbrella"} {
				if err := send(t, s, message(name, "1")); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Check(t.Context(), nil); err != nil {
				t.Error(err)
			}
			if err := send(t, s, message("initech", "1")); !says(err, "dead letter: ") || !says(err, "unknown endpoint in ") {
				t.Error(err)
			}
			// A URL that is no name has the defaults, and is refused here only since it does not lead to the CA's server.
			if err := send(t, s, message(strings.Replace(hooks, "http:", "https:", 1), "1")); !says(err, "snoozed") {
				t.Error(err)
			}
			if err := send(t, s, message(hooks, "1")); !says(err, "unknown endpoint") {
				t.Error("over http:", err)
			}
			for _, test := range []struct {
				path, kind string
				secrets    []string
			}{{"/acme", "default", []string{one}}, {"/umbrella", "own", []string{two, one}}} {
				h := headers[test.path]
				if h.Get("X-From") != "signalbox" || h.Get("X-Kind") != test.kind {
					t.Errorf("%s: %v", test.path, h)
				}
				if n := len(strings.Fields(h.Get("webhook-signature"))); n != len(test.secrets) {
					t.Errorf("%s: %d signatures", test.path, n)
				}
				for _, secret := range test.secrets {
					hook, err := standardwebhooks.NewWebhook(secret)
					if err != nil {
						t.Fatal(err)
					}
					if err := hook.Verify(message("", "1").Body, h); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// TestFileIsReadAgain changes the file in every way that it may change.
func TestFileIsReadAgain(t *testing.T) {
	t.Parallel()
	var status atomic.Int64
	status.Store(http.StatusOK)
	var paths sync.Map
	hooks := plainReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		paths.Store(r.URL.Path, true)
		w.WriteHeader(int(status.Load()))
	})
	content := func(path string) string { return "endpoints: {a: {unsigned: true, url: " + hooks + path + "}}" }
	path := write(t, "endpoints.yaml", content("/one"))
	logs := &safeBuffer{}
	s := open(t, webhook.Config{File: path, Logger: slog.New(slog.NewTextHandler(logs, nil))})
	change := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	arrives := func(want string) func() bool {
		return func() bool {
			err := send(t, s, message("a", "1"))
			_, found := paths.Load(want)
			return err == nil && found
		}
	}
	eventually(t, "the first", arrives("/one"))
	change(content("/two"))
	eventually(t, "another URL", arrives("/two"))

	secret := newSecret()
	for i, invalid := range []string{"endpoints: [" + secret, "endpoints: {a: {secrets: " + secret + "}}", "endpoints: {a: {secrets: [" + secret + "x]}, b: {url: " + hooks + "}}"} {
		change(invalid)
		eventually(t, "an invalid file is noticed", func() bool { return s.Status().FailedReads == int64(i+1) })
		if err := send(t, s, message("a", "1")); err != nil {
			t.Error("with an invalid file:", err)
		}
	}
	if n := strings.Count(logs.String(), "those from before stay"); n != 3 {
		t.Errorf("%d lines of three invalid files", n)
	}
	if strings.Contains(logs.String(), secret[:12]) {
		t.Errorf("a secret is logged:\n%s", logs)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a missing file is noticed", func() bool { return s.Status().FailedReads == 4 })
	change(content("/three"))
	eventually(t, "a file that is there again", arrives("/three"))

	// Touched, it begins anew with endpoints that are gone.
	status.Store(http.StatusGone)
	if err := send(t, s, message("a", "1")); !says(err, "dead letter") {
		t.Error(err)
	}
	status.Store(http.StatusOK)
	now := time.Now()
	if err := os.Chtimes(path, now, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a file that was touched", arrives("/three"))

	// As Kubernetes does it.
	if err := os.Rename(write(t, "new", content("/four")), path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another file of its name", arrives("/four"))
}

func TestFileIsInvalid(t *testing.T) {
	t.Parallel()
	secret := newSecret()
	for name, test := range map[string]struct{ text, says string }{
		"not YAML":        {"endpoints: [" + secret, "yaml: "},
		"unknown field":   {"endpoints: {a: {url: https://localhost, secret: " + secret + "}}", "field secret not found"},
		"no list":         {"endpoints: {a: {url: https://localhost, secrets: " + secret + "}}", "cannot unmarshal"},
		"no URL":          {"endpoints: {a: {unsigned: true}}", `endpoint "a": its URL must begin with https://`},
		"another scheme":  {"endpoints: {a: {unsigned: true, url: 'ftp://localhost'}}", "its URL must begin with https://"},
		"a password":      {"endpoints: {a: {unsigned: true, url: 'https://me:hunter2@localhost'}}", "its URL has a user or a password"},
		"no secret":       {"endpoints: {a: {url: https://localhost}}", "it has no secret: add one"},
		"both":            {"endpoints: {a: {url: https://localhost, unsigned: true, secrets: [" + secret + "]}}", "choose one"},
		"no prefix":       {"endpoints: {a: {url: https://localhost, secrets: [" + secret[6:] + "]}}", "secret 1: it must begin with whsec_"},
		"not base64":      {"endpoints: {a: {url: https://localhost, secrets: [" + secret + "!]}}", "secret 1: it is not base64"},
		"short":           {"endpoints: {a: {url: https://localhost, secrets: [whsec_c2VjcmV0]}}", "secret 1: it has 6 bytes, must have 24 to 64: make one with"},
		"header":          {"endpoints: {a: {url: https://localhost, unsigned: true, headers: {Webhook-Id: x}}}", `header "Webhook-Id" cannot be set`},
		"negative":        {"endpoints: {a: {url: https://localhost, unsigned: true, timeout: -1s}}", "timeout is -1s, must not be negative"},
		"key without":     {"endpoints: {a: {url: https://localhost, unsigned: true, key_file: k.pem}}", "set both"},
		"no CA file":      {"endpoints: {a: {url: https://localhost, unsigned: true, ca_file: /no/such}}", "read certificates of the CA: open /no/such"},
		"nothing":         {"", "it has no endpoints: add one"},
		"URL of defaults": {"defaults: {url: https://localhost}", "defaults: they cannot have a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := webhook.New(webhook.Config{File: write(t, "endpoints.yaml", test.text)})
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want %s", err, test.says)
			}
			if err != nil && (strings.Contains(err.Error(), secret[6:12]) || strings.Contains(err.Error(), "c2VjcmV0")) {
				t.Errorf("it has the secret: %v", err)
			}
		})
	}
	if _, err := webhook.New(webhook.Config{File: "/no/such"}); err == nil || !strings.Contains(err.Error(), "read endpoints: ") {
		t.Error(err)
	}
	if _, err := webhook.New(webhook.Config{}); err == nil || !strings.Contains(err.Error(), "set one of Endpoint, File and Endpoints") {
		t.Error(err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	text := newSecret()
	secret := webhook.NewSecret(text)
	e := webhook.Endpoint{URL: "https://localhost", Secrets: []webhook.Secret{secret}, Headers: map[string]webhook.Secret{"Authorization": secret}}
	type inside struct{ e webhook.Endpoint }
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{e, &e, secret, &secret, []any{&e, &secret}, webhook.Config{Endpoint: &e}, inside{e}, &inside{e}} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "endpoint", e, "secret", secret)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "endpoint", e, "secret", secret)
	if err := json.NewEncoder(&out).Encode(e); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), text[6:12]) || strings.Contains(out.String(), fmt.Sprintf("%x", text)) || strings.Count(out.String(), "redacted") < 20 {
		t.Errorf("printed:\n%s", &out)
	}
}

//nolint:paralleltest // it sets variables of the environment
func TestFromURL(t *testing.T) {
	older, newer := newSecret(), newSecret()
	var got http.Header
	var query string
	hooks := plainReceiver(t, func(_ http.ResponseWriter, r *http.Request) { got, query = r.Header, r.URL.RawQuery })
	secretFile := write(t, "secret", newer+"\n"+older+"\n")
	endpoints := write(t, "endpoints.yaml", "endpoints: {a: {url: "+hooks+", secrets: ["+newer+"]}}")
	for name, test := range map[string]struct {
		url         string
		environment map[string]string
		says        string
		signatures  int
		query       string
	}{
		"environment":          {hooks + "/?x=1", map[string]string{"WEBHOOK_SECRET": newer + " " + older, "WEBHOOK_ALLOW": "127.0.0.0/8,::1/128"}, "", 2, "x=1"},
		"file":                 {hooks, map[string]string{"WEBHOOK_SECRET_FILE": secretFile, "WEBHOOK_ALLOW": "127.0.0.0/8"}, "", 2, ""},
		"options":              {hooks + "?y=2#secret_file=" + secretFile + "&allow=127.0.0.0/8&timeout=5s&concurrency=2&requests=9", nil, "", 2, "y=2"},
		"its own variable":     {hooks + "#secret_env=HOOK&allow=127.0.0.0/8", map[string]string{"HOOK": newer, "WEBHOOK_SECRET": older + " " + older}, "", 1, ""},
		"unsigned":             {hooks + "#unsigned=true&allow=127.0.0.0/8", map[string]string{"WEBHOOK_SECRET": older}, "", 0, ""},
		"a file of endpoints":  {"webhook:" + endpoints + "#allow=127.0.0.0/8", nil, "", 1, ""},
		"no secret":            {hooks, nil, "there is no secret: set WEBHOOK_SECRET or WEBHOOK_SECRET_FILE", 0, ""},
		"no such file":         {hooks + "#secret_file=/no/such", nil, "read secret: open /no/such", 0, ""},
		"wrong secret":         {hooks, map[string]string{"WEBHOOK_SECRET": newer[6:]}, "must begin with whsec_", 0, ""},
		"unknown option":       {hooks + "#secret=" + newer, map[string]string{"WEBHOOK_SECRET": newer}, "option secret is not an option here", 0, ""},
		"wrong network":        {hooks + "#unsigned=true&allow=10.0.0.1", nil, "option allow (or WEBHOOK_ALLOW) must be networks", 0, ""},
		"wrong duration":       {hooks + "#unsigned=true&timeout=5", nil, "option timeout must be a duration", 0, ""},
		"wrong scheme":         {"ftp://localhost", nil, `scheme is "ftp", must be https, http or webhook`, 0, ""},
		"no file of endpoints": {"webhook://etc/endpoints.yaml", nil, "write webhook:/path/endpoints.yaml", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, name := range []string{"WEBHOOK_SECRET", "WEBHOOK_SECRET_FILE", "WEBHOOK_ALLOW"} {
				t.Setenv(name, "")
			}
			for name, value := range test.environment {
				t.Setenv(name, value)
			}
			u, err := url.Parse(test.url)
			if err != nil {
				t.Fatal(err)
			}
			s, err := webhook.FromURL(u)
			if test.says != "" {
				if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), newer[6:]) {
					t.Errorf("%v, want %s", err, test.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := send(t, s, message("a", "1")); err != nil {
				t.Fatal(err)
			}
			if n := len(strings.Fields(got.Get("webhook-signature"))); n != test.signatures || query != test.query {
				t.Errorf("%d signatures, query %q", n, query)
			}
		})
	}
}

// A safeBuffer may be written to and read at the same time.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
