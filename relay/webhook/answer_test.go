package webhook_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/relay/webhook"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status       int
		header, body string
		many, single string // what the answer says, where there are others and where there are none
	}{
		"200":                     {200, "", "thanks", "", ""},
		"204":                     {204, "", "", "", ""},
		"301":                     {301, "", "", "dead letter: endpoint X: status 301: redirects are not followed", "dead letter: "},
		"304":                     {304, "", "", "dead letter: ", "dead letter: "},
		"400":                     {400, "", "no\x1b[31m such\nfield", "dead letter: endpoint X: status 400: no [31m such field", "dead letter: "},
		"401":                     {401, "", "", "dead letter: endpoint X: status 401", "dead letter: "},
		"404":                     {404, "", "", "dead letter: ", "dead letter: "},
		"410":                     {410, "", "", "dead letter: endpoint X: status 410: the endpoint is disabled until", "dead letter: "},
		"413":                     {413, "", "", "dead letter: ", "dead letter: "},
		"408":                     {408, "", "", "endpoint X: status 408", "endpoint X: status 408"},
		"408 with Retry-After":    {408, "Retry-After: 7", "", "snoozed for ", "pause for 7s"},
		"429":                     {429, "", "", "snoozed for ", "pause for 1s"},
		"429 with Retry-After":    {429, "Retry-After: 120", "", "snoozed for ", "pause for 2m0s"},
		"429 with a long one":     {429, "Retry-After: 99999999999999999999", "", "snoozed for ", "pause for 1h0m0s"},
		"500":                     {500, "", "oops", "endpoint X: status 500: oops", "endpoint X: status 500: oops"},
		"503 with Retry-After":    {503, "Retry-After: 30", "", "snoozed for ", "pause for 30s"},
		"503 with one that is no": {503, "Retry-After: soon", "", "endpoint X: status 503", "endpoint X: status 503"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			url := plainReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.Header().Set("Location", "/elsewhere")
				if name, value, found := strings.Cut(test.header, ": "); found {
					w.Header().Set(name, value)
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})
			err := send(t, open(t, to(url)), message("a", "1"))
			if want := strings.ReplaceAll(test.many, "X", `"a"`); !says(err, want) || want == "" != (err == nil) {
				t.Errorf("among others: %v, want %s", err, want)
			}
			if err != nil && !strings.HasPrefix(test.many, "snoozed") && strings.Contains(err.Error(), "snoozed") {
				t.Errorf("it is no attempt: %v", err)
			}
			alone := open(t, webhook.Config{Endpoint: &webhook.Endpoint{URL: url, Unsigned: true}})
			if err, want := send(t, alone, message("whatever", "1")), strings.ReplaceAll(test.single, "X", url); !says(err, want) {
				t.Errorf("alone: %v, want %s", err, want)
			}
			if n := requests.Load(); n != 2 {
				t.Errorf("%d requests for two messages", n)
			}
		})
	}
}

func TestRetryAfterDate(t *testing.T) {
	t.Parallel()
	url := plainReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", time.Now().Add(10*time.Minute).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	alone := open(t, webhook.Config{Endpoint: &webhook.Endpoint{URL: url, Unsigned: true}})
	if err := send(t, alone, message("", "1")); !says(err, "pause for 9m") && !says(err, "pause for 10m") {
		t.Error(err)
	}
}

// TestPause has an endpoint say that it wants to be left alone: it is, and nothing of it is an attempt.
func TestPause(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	url := plainReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	s := open(t, to(url))
	for i := range 50 {
		if err := send(t, s, message("a", fmt.Sprint(i))); !says(err, "snoozed for 1h") {
			t.Fatal(err)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	if troubles := s.Status().Troubles; len(troubles) != 1 || troubles[0].State != webhook.Paused || time.Until(troubles[0].Until) < 50*time.Minute {
		t.Errorf("%+v", troubles)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	inner := plainReceiver(t, func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
	url := plainReceiver(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inner, http.StatusTemporaryRedirect) })
	if err := send(t, open(t, to(url)), message("a", "1")); !says(err, "dead letter: ") {
		t.Error(err)
	}
}

// TestGone has an endpoint say 410, which makes dead letters of what follows, until it is enabled again.
func TestGone(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	var status atomic.Int64
	status.Store(http.StatusGone)
	url := plainReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(int(status.Load()))
	})
	endpoints := map[string]webhook.Endpoint{"a": {URL: url, Unsigned: true}}
	s := open(t, byName(endpoints))
	for range 3 {
		if err := send(t, s, message("a", "1")); !says(err, "dead letter: ") || !says(err, "status 410") {
			t.Fatal(err)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	if troubles := s.Status().Troubles; len(troubles) != 1 || troubles[0].State != webhook.Gone || !strings.Contains(troubles[0].Error, "410") {
		t.Errorf("%+v", troubles)
	}
	status.Store(http.StatusOK)
	s.Enable("a")
	if err := send(t, s, message("a", "2")); err != nil {
		t.Error("after Enable:", err)
	}

	status.Store(http.StatusGone)
	if err := send(t, s, message("a", "3")); !says(err, "dead letter: ") {
		t.Error(err)
	}
	status.Store(http.StatusOK)
	endpoints["a"] = webhook.Endpoint{URL: url + "/moved", Unsigned: true}
	if err := send(t, s, message("a", "4")); err != nil {
		t.Error("after a change of its definition:", err)
	}
}

func TestUnknownEndpoint(t *testing.T) {
	t.Parallel()
	if err := send(t, open(t, to("https://localhost")), message("b", "1")); !says(err, `dead letter: endpoint "b": unknown endpoint: add it`) {
		t.Error(err)
	}
	wrong := byName(map[string]webhook.Endpoint{"a": {URL: "https://localhost"}})
	if err := send(t, open(t, wrong), message("a", "1")); !says(err, `dead letter: endpoint "a": it has no secret`) {
		t.Error(err)
	}
}

// TestBodyIsBounded has a receiver answer for ever.
func TestBodyIsBounded(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusOK, http.StatusBadRequest} {
		for name, pause := range map[string]time.Duration{"fast": 0, "slow": 50 * time.Millisecond} {
			t.Run(fmt.Sprint(status, " ", name), func(t *testing.T) {
				t.Parallel()
				ended := make(chan struct{})
				url := plainReceiver(t, func(w http.ResponseWriter, r *http.Request) {
					defer close(ended)
					w.WriteHeader(status)
					for r.Context().Err() == nil {
						if _, err := io.WriteString(w, strings.Repeat("x", 100)); err != nil {
							return
						}
						w.(http.Flusher).Flush()
						time.Sleep(pause)
					}
				})
				err := send(t, open(t, to(url)), message("a", "1"))
				if (status == http.StatusOK) != (err == nil) || err != nil && len(err.Error()) > 700 {
					t.Error(err)
				}
				select {
				case <-ended:
				case <-time.After(patience):
					t.Error("the connection stays open")
				}
			})
		}
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	url := plainReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the client goes
		<-r.Context().Done()
	})
	s := open(t, byName(map[string]webhook.Endpoint{"a": {URL: url, Unsigned: true, Timeout: 50 * time.Millisecond}}))
	if err := send(t, s, message("a", "1")); !says(err, "no answer within ") {
		t.Error(err)
	}
}
