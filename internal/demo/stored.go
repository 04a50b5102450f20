package demo

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// noteStored passes requests on to a producer and reports the ids of the events that it says it has stored. What a client
// is told is what it relies on, so that is what counts as published.
func noteStored(next http.Handler, stored func(ids ...int64)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		// Counted here and not at the client: one that hung up has its event all the same.
		heard := &transcript{ResponseWriter: w}
		next.ServeHTTP(heard, r)
		// One of them is there, depending on the endpoint.
		var answer struct {
			Event struct {
				ID int64 `json:"id"`
			} `json:"event"`
			EventIDs []int64 `json:"event_ids"`
		}
		if heard.code != http.StatusOK || json.Unmarshal(heard.body.Bytes(), &answer) != nil {
			return
		}
		if answer.Event.ID != 0 {
			answer.EventIDs = append(answer.EventIDs, answer.Event.ID)
		}
		stored(answer.EventIDs...)
	})
}

// A transcript is a response that is also kept.
type transcript struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
}

func (t *transcript) WriteHeader(code int) {
	t.code = code
	t.ResponseWriter.WriteHeader(code)
}

func (t *transcript) Write(b []byte) (int, error) {
	t.body.Write(b)
	return t.ResponseWriter.Write(b)
}
