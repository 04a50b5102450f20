package nats

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/signalbox-go/signalbox/relay"
)

func TestFromURL(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]Config{
		"nats://localhost":                            {URL: "nats://localhost:4222"},
		"tls://a,b:1":                                 {URL: "tls://a:4222,tls://b:1"},
		"nats://u@h:1/":                               {URL: "nats://h:1", User: "u"},
		"nats://u@h:1?password-file=" + password:      {URL: "nats://h:1", User: "u", Password: "from a file"},
		"nats://h:1?creds=/c":                         {URL: "nats://h:1", CredentialsFile: "/c"},
		"nats://h:1?nkey=/n&ca=/a&cert=/b&key=/k":     {URL: "nats://h:1", NKeyFile: "/n", CAFile: "/a", CertFile: "/b", KeyFile: "/k"},
		"nats://h:1?max-pending=7&ack-timeout=1s":     {URL: "nats://h:1", MaxPending: 7, AckTimeout: time.Second},
		"nats://h:1?min-duplicate-window=1h&ca=other": {URL: "nats://h:1", MinDuplicateWindow: time.Hour, CAFile: "other"},
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		got, err := fromURL(u, func(string) string { return "" })
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Config{}, "Logger")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", raw, diff)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	env := map[string]string{"NATS_USER": "u", "NATS_PASSWORD": "p", "NATS_CA": "/ca", "NATS_CERT": "/cert", "NATS_KEY": "/key"}
	got, err := fromURL(&url.URL{Scheme: "tls", Host: "h"}, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	want := Config{URL: "tls://h:4222", User: "u", Password: "p", CAFile: "/ca", CertFile: "/cert", KeyFile: "/key"}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Config{}, "Logger")); diff != "" {
		t.Error(diff)
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"http://h":                       `the scheme is "http"`,
		"nats://":                        "it has no host",
		"nats://h/subject":               "it has a path",
		"nats://h?max-pendig=1":          `there is no parameter "max-pendig"`,
		"nats://u:secret@h":              "it has a password: put it into the environment variable NATS_PASSWORD",
		"nats://u@h?creds=/c":            "exclude each other",
		"nats://h?cert=/c":               "CertFile and KeyFile belong together",
		"nats://h?ca=/none":              "no such file",
		"nats://h?creds=/none":           "no such file",
		"nats://h?nkey=/none":            "no such file",
		"nats://u@h?password-file=/none": "no such file",
		"nats://h?cert=/c&key=/no":       "no such file",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		c, err := FromURL(u)
		if err == nil {
			_, err = New(c)
		}
		if !errors.Is(err, ErrInvalidConfig) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
	for want, c := range map[string]Config{
		"URL is empty":         {},
		"there is a Password":  {URL: "nats://h", Password: "secret"},
		"URL must list":        {URL: "localhost"},
		"URL has a user":       {URL: "nats://u:secret@h"},
		"must not be negative": {URL: "nats://h", MaxPending: -1},
	} {
		if _, err := New(c); !errors.Is(err, ErrInvalidConfig) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	msg, err := message(&relay.Message{
		ID: "id", Destination: "orders.placed", ContentType: "application/json", Body: []byte("{}"),
		Headers: map[string]string{"ce-type": "x", "Nats-Rollup": "all", "nats-msg-id": "other"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"ce-type": {"x"}, "Content-Type": {"application/json"}, "Nats-Msg-Id": {"id"}}
	if diff := cmp.Diff(want, map[string][]string(msg.Header)); diff != "" {
		t.Error(diff)
	}
}

func TestSubjectFault(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", ".", "a.", "a..b", "a.*", ">", "a b", "a\n", "$JS.API.STREAM.PURGE.X", "$SYS.REQ"} {
		if subjectFault(bad) == "" {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, good := range []string{"a", "a.b-c_d", "$KV.bucket.key", "a*b"} {
		if fault := subjectFault(good); fault != "" {
			t.Errorf("%q: %s", good, fault)
		}
	}
}
