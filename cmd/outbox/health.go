package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

type healthCommand struct {
	URL string `arg:"" help:"What to ask, such as http://127.0.0.1:8080/readyz."`
}

// Help is what "outbox health --help" explains.
func (*healthCommand) Help() string {
	return `Asks a producer, or a worker with --admin, and exits with 0 if the answer is 200. It is for health checks in containers that have
no shell:

	HEALTHCHECK CMD ["outbox", "health", "http://127.0.0.1:8080/readyz"]

/healthz tells that the process runs, /readyz that it can serve.`
}

const (
	healthTimeout = 4 * time.Second // a little less than those who run health checks usually wait
	healthExcerpt = 1 << 10         // of an answer, in bytes
)

func (c *healthCommand) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(response.Body, healthExcerpt)) // what there is of it
		return fmt.Errorf("%s answers %s: %s", c.URL, response.Status, bytes.TrimSpace(why))
	}
	return nil
}
