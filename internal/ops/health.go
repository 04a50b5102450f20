package ops

import (
	"encoding/json"
	"net/http"
)

// NewHealth answers those who look after a process: /healthz says that it lives, /readyz that it serves, which ready tells with nil.
func NewHealth(ready func() error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(response http.ResponseWriter, _ *http.Request) {
		answer(response, http.StatusOK, "status", "ok")
	})
	mux.HandleFunc("GET /readyz", func(response http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			answer(response, http.StatusServiceUnavailable, "error", err.Error())
			return
		}
		answer(response, http.StatusOK, "status", "ready")
	})
	return mux
}

// answer writes JSON, as the producer's endpoints of the same names do.
func answer(response http.ResponseWriter, code int, field, text string) {
	response.Header().Set("Content-Type", "application/json")
	response.WriteHeader(code)
	_ = json.NewEncoder(response).Encode(map[string]string{field: text})
}
