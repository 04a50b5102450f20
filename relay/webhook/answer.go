package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/internal/plain"
)

// pauseMost is how long an endpoint may have itself left alone with one answer.
const pauseMost = time.Hour

// A result is what became of a request.
type result struct {
	kind  kind
	err   error
	pause time.Duration // what Retry-After says
}

type kind int

const (
	takes       kind = iota // the endpoint has the message
	refuses                 // it does not want this message, nor would it later
	gone                    // it wants no message any more
	busy                    // it wants to be left alone
	fails                   // the endpoint or the message is at fault
	unreachable             // the endpoint is at fault: the message was not sent
	interrupted             // the worker stops
)

// answered reads an answer.
func answered(res *http.Response, body string, now time.Time) result {
	text := "status " + strconv.Itoa(res.StatusCode)
	if body := plain.Line(body); body != "" {
		text += ": " + body
	}
	r := result{err: errors.New(text)}
	switch code := res.StatusCode; {
	case code >= 200 && code < 300:
		return result{kind: takes}
	case code >= 300 && code < 400:
		// Not to where: the answer may come from anybody, and the place may be private.
		r.kind, r.err = refuses, fmt.Errorf("status %d: redirects are not followed: set the endpoint's URL to where it is now", code)
	case code == http.StatusGone:
		r.kind = gone
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500:
		r.kind, r.pause = fails, retryAfter(res.Header.Get("Retry-After"), now)
		if r.pause > 0 || code == http.StatusTooManyRequests {
			r.kind = busy
		}
	default:
		r.kind = refuses
	}
	return r
}

// retryAfter reads the header of that name: seconds, or a date. It returns 0 for one that says nothing, or is past.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(pauseMost/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), pauseMost)
}
