package rabbitmq

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/signalbox-go/signalbox/worker"
)

func TestFromURL(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]Config{
		"amqp://localhost":                           {URL: "amqp://localhost"},
		"amqp://u@h:1/shop?exchange=e":               {URL: "amqp://h:1/shop", User: "u", Exchange: "e"},
		"amqp://u@h/a%2Fb?password-file=" + password: {URL: "amqp://h/a%2Fb", User: "u", Password: "from a file"},
		"amqps://h?max-pending=7&ack-timeout=1s":     {URL: "amqps://h", MaxPending: 7, AckTimeout: time.Second},
		"amqps://h?ca=/a&cert=/b&key=/k":             {URL: "amqps://h", CAFile: "/a", CertFile: "/b", KeyFile: "/k"},
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		got, err := fromURL(u, func(string) string { return "" })
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", raw, diff)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	env := map[string]string{"RABBITMQ_USER": "u", "RABBITMQ_PASSWORD": "p", "RABBITMQ_CA": "/ca", "RABBITMQ_CERT": "/cert", "RABBITMQ_KEY": "/key"}
	got, err := fromURL(&url.URL{Scheme: "amqps", Host: "h"}, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Config{URL: "amqps://h", User: "u", Password: "p", CAFile: "/ca", CertFile: "/cert", KeyFile: "/key"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"http://h":                       `the scheme is "http", must be amqp or amqps`,
		"amqp://":                        "URL must be a server such as",
		"amqp://h?exchang=e":             `there is no parameter "exchang"`,
		"amqp://u:secret@h":              "it has a password: put it into the environment variable RABBITMQ_PASSWORD",
		"amqp://u@h?password-file=/none": "no such file",
		"amqp://h?ca=/none":              "the URL is amqp: without it",
		"amqps://h?ca=/none":             "no such file",
		"amqps://h?cert=/none":           "CertFile and KeyFile belong together",
		"amqps://h?cert=/none&key=/none": "no such file",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = FromURL(u)
		if !errors.Is(err, ErrInvalidConfig) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
	for want, c := range map[string]Config{
		"URL must be a server": {},
		"URL has a user":       {URL: "amqp://u:secret@h"},
		"URL has parameters":   {URL: "amqp://h?exchange=e"},
		"there is a Password":  {URL: "amqp://h", Password: "secret"},
		"Exchange has 256":     {URL: "amqp://h", Exchange: strings.Repeat("e", 256)},
		"must not be negative": {URL: "amqp://h", AckTimeout: -1},
	} {
		if _, err := New(c); !errors.Is(err, ErrInvalidConfig) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"amqp://h:1": "amqp://h:1 /", "amqp://h/": "amqp://h /", "amqp://h/shop": "amqp://h shop", "amqp://h/%2F": "amqp://h /", "amqp://h/a%2Fb": "amqp://h a/b",
	} {
		if address, vhost := (Config{URL: raw}).address(); address+" "+vhost != want {
			t.Errorf("%s: %s %s", raw, address, vhost)
		}
	}
}

func TestRoute(t *testing.T) {
	t.Parallel()
	for destination, want := range map[string][2]string{"e/k": {"e", "k"}, "e/k/l": {"e", "k/l"}, "q": {"", "q"}, "e/": {"e", ""}, "": {"", ""}} {
		if exchange, key := (Config{}).route(destination); exchange != want[0] || key != want[1] {
			t.Errorf("%q: %q, %q", destination, exchange, key)
		}
	}
	if exchange, key := (Config{Exchange: "e"}).route("k/l"); exchange != "e" || key != "k/l" {
		t.Errorf("%q, %q", exchange, key)
	}
}

// The fault of one message ends the channel for all: only what it may be about is blamed.
func TestLost(t *testing.T) {
	t.Parallel()
	m := &message{exchange: "e", publishing: amqp.Publishing{Body: make([]byte, 70)}}
	for reason, test := range map[string]struct {
		code int
		want error
	}{
		"NOT_FOUND - no exchange 'e' in vhost '/'":                                                 {404, worker.Outage(nil)},
		"NOT_FOUND - no exchange 'f' in vhost '/'":                                                 {404, errLost},
		"ACCESS_REFUSED - access to exchange 'e' in vhost '/' refused for user 'u'":                {403, worker.Outage(nil)},
		"PRECONDITION_FAILED - message size 70 is larger than configured max size 50":              {406, worker.DeadLetter(nil)},
		"PRECONDITION_FAILED - message size 71 is larger than configured max size 50":              {406, errLost},
		"CONNECTION_FORCED - broker forced connection closure with reason 'shutdown' exchange 'e'": {320, errLost},
	} {
		got := m.lost(&amqp.Error{Code: test.code, Reason: reason}, nil).Error()
		kind, _, _ := strings.Cut(test.want.Error(), ":")
		if !strings.HasPrefix(got, kind) {
			t.Errorf("%s: %s, want %s", reason, got, kind)
		}
	}
}
