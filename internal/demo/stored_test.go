package demo

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWitness(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		method string
		code   int
		body   string
		want   []int64
	}{
		"one":        {"POST", 200, `{"signal": {"id": 1}, "event": {"id": 7}}`, []int64{7}},
		"batch":      {"POST", 200, `{"count": 2, "signal_ids": [1, 2], "event_ids": [8, 9]}`, []int64{8, 9}},
		"refused":    {"POST", 400, `{"error": "no", "event": {"id": 7}}`, nil},
		"uncertain":  {"POST", 503, `{"error": "outcome unknown"}`, nil},
		"not JSON":   {"POST", 200, `ok`, nil},
		"not a POST": {"GET", 200, `{"event": {"id": 7}}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []int64
			handler := noteStored(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.code)
				_, _ = io.WriteString(w, test.body)
			}), func(ids ...int64) { got = append(got, ids...) })
			response := httptest.NewRecorder()
			handler.ServeHTTP(response, httptest.NewRequest(test.method, "/ingest", nil))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if response.Code != test.code || response.Body.String() != test.body {
				t.Errorf("the client got %d %s", response.Code, response.Body)
			}
		})
	}
}
