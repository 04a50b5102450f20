package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
)

type healthCommand struct {
	URL string `arg:"" help:"What to ask, such as http://127.0.0.1:8080/readyz."`
	asJSON
}

// Help is what "outbox health --help" explains.
func (*healthCommand) Help() string {
	return `Asks a producer, or a worker with --admin, and exits with 0 if the answer is 200, and with 1 otherwise.

	outbox health http://127.0.0.1:8080/readyz

It is for health checks in containers that have no shell:

	HEALTHCHECK CMD ["outbox", "health", "http://127.0.0.1:8080/readyz"]

/healthz tells that the process runs, /readyz that it can serve.`
}

const (
	healthTimeout = 4 * time.Second // a little less than those who run health checks usually wait
	healthExcerpt = 1 << 10         // of an answer, in bytes
)

// A healthAnswer is what "outbox health --json" prints.
type healthAnswer struct {
	Healthy bool   `json:"healthy"`
	Status  int    `json:"status"`
	Answer  string `json:"answer"`
}

func (h *healthCommand) Run(ctx context.Context, c *console) error {
	if at, err := url.Parse(h.URL); err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return &cli.UsageError{Err: fmt.Errorf("%q is no URL such as http://127.0.0.1:8080/readyz", h.URL)}
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(response.Body, healthExcerpt)) // what there is of it
	text = bytes.TrimSpace(text)
	healthy := response.StatusCode == http.StatusOK
	if h.JSON {
		if err := c.print(healthAnswer{healthy, response.StatusCode, string(text)}); err != nil {
			return err
		}
	}
	if !healthy {
		return fmt.Errorf("%s answers %s: %s", h.URL, response.Status, text)
	}
	return nil
}
