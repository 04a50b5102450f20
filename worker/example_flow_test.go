package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/worker"
)

// A service that says when it may be called again: the worker begins nothing of the subscription before then. The event is handled
// again afterwards, and no attempt is counted.
func ExamplePauseFor() {
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer busy.Close()

	handler := func(ctx context.Context, e *worker.Event[json.RawMessage]) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, busy.URL, strings.NewReader(string(e.Payload)))
		if err != nil {
			return worker.DeadLetter(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		switch answer := errors.New(response.Status); response.StatusCode {
		case http.StatusOK, http.StatusAccepted:
			return nil
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return worker.PauseFor(retryAfter(response.Header), answer)
		default:
			return answer
		}
	}

	fmt.Println(handler(context.Background(), &worker.Event[json.RawMessage]{}))
	// Output:
	// pause for 30s: 429 Too Many Requests
}

// retryAfter reads the header of that name: seconds, or a date. Without either, it is a minute.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return time.Until(date)
	}
	return time.Minute
}

// An event that comes too early is handled again later. That is no failure: it uses up no attempt, and nothing is logged.
func ExampleSnooze() {
	invoiced := func(id string) bool { return id == "A-17" }
	handler := func(_ context.Context, e *worker.Event[placed]) error {
		if !invoiced(e.Payload.ID) {
			return worker.Snooze(10 * time.Minute)
		}
		return nil // send the invoice
	}

	fmt.Println(handler(context.Background(), &worker.Event[placed]{Payload: placed{ID: "A-17"}}))
	fmt.Println(handler(context.Background(), &worker.Event[placed]{Payload: placed{ID: "A-18"}}))
	// Output:
	// <nil>
	// snoozed for 10m0s
}

// A service that allows 10 calls a second: all workers of the subscription together begin no more, and after a pause no more than 20 at
// once. Waiting uses up neither attempts nor their timeout.
func ExampleSubscription_rate() {
	_ = worker.Subscription{Name: "sms", Topics: []string{"orders.placed"}, Rate: 10, RateBurst: 20}
}

// The circuit breaker opens when nearly all of the last 50 attempts have failed, in place of 20. For a subscription whose events fail
// for reasons of their own, it can be turned off: each attempt counts then, in an outage, too.
func ExampleSubscription_breakerAfter() {
	_ = worker.Subscription{Name: "mails", Topics: []string{"orders.placed"}, BreakerAfter: 50}
	_ = worker.Subscription{Name: "imports", Topics: []string{"files.uploaded"}, BreakerAfter: worker.Unlimited}
}
