package producer_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// FuzzIngest: whatever a client sends, it is stored or refused with a reason, and never an internal error: what passes the checks
// here passes PostgreSQL's.
func FuzzIngest(f *testing.F) {
	for _, seed := range [][2]string{
		{"application/json", `{"name":"n","value":1}`},
		{"application/json", `[{"name":"n","value":1e-400},{"name":"\ud83d\ude00","value":-0,"timestamp":"2026-11-22T10:00:00.123456789+14:00"}]`},
		{"application/json; charset=UTF-8", `{"name":"n","value":1.7976931348623157e308}`},
		{"application/x-ndjson", "{\"name\":\"a\",\"value\":1}\n\n{\"name\":\"b\",\"value\":2}"},
		{"application/x-ndjson", `{"name":"n","value":1,"timestamp":"0001-01-01T00:00:01Z"}`},
		{"application/json", `{"name":"n","value":1,"timestamp":"9999-12-31T23:59:59.9999999Z"}`},
		{"application/json", `{"name":"\u2028\u007f\ufeff","value":5e-324}`},
		{"text/plain; a=\"", ""},
		{"", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	handler := quiet(pgtest.New(f).Pool)
	f.Fuzz(func(t *testing.T, contentType, body string) {
		for _, path := range []string{"/ingest", "/ingest/batch"} {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
			request.Header.Set("Content-Type", contentType)
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, request)
			if recorder.Code != http.StatusOK && recorder.Code/100 != 4 {
				t.Errorf("%s of %q as %q: %d %s", path, body, contentType, recorder.Code, recorder.Body)
			}
			var answer map[string]any
			if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
				t.Errorf("%s of %q as %q: %v: %s", path, body, contentType, err, recorder.Body)
			}
		}
	})
}
