package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /away", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the database cannot be reached", http.StatusServiceUnavailable)
	})
	server := httptest.NewServer(mux)
	closed := httptest.NewServer(mux)
	closed.Close()
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)

	for name, test := range map[string]struct{ url, want string }{
		"well":      {server.URL + "/readyz", ""},
		"unwell":    {server.URL + "/away", "answers 503 Service Unavailable: the database cannot be reached"},
		"not there": {closed.URL + "/readyz", "connection refused"},
		"no scheme": {"127.0.0.1:8080", `"127.0.0.1:8080" is no URL such as http://`},
		"a name":    {"localhost:8080/readyz", "is no URL such as http://"},
		"no host":   {"http:///readyz", "is no URL such as http://"},
	} {
		err := Run(t.Context(), []string{"health", test.url}, io.Discard, io.Discard)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
}
