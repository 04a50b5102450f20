package webhook_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/webhook"
)

// A sink with one endpoint, and a receiver that verifies what it gets.
func Example() {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		log.Fatal(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil || verifier.Verify(body, r.Header) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Println(r.Header.Get("webhook-id"), string(body))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()

	sink, err := webhook.New(webhook.Config{
		Endpoint: &webhook.Endpoint{URL: receiver.URL, Secrets: []webhook.Secret{webhook.NewSecret(secret)}},
		Allow:    []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, // where this receiver is
	})
	if err != nil {
		log.Fatal(err)
	}
	defer sink.Close()

	answer := make(chan error)
	sink.Send(context.Background(), &relay.Message{ID: "01989e6c-4bb4-7a3d", ContentType: "application/json", Body: []byte(`{"total":17}`)}, func(err error) {
		answer <- err
	})
	fmt.Println(<-answer)
	// Output:
	// 01989e6c-4bb4-7a3d {"total":17}
	// <nil>
}
