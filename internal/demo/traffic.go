package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/signalbox-go/signalbox/producer"
)

const (
	// maxInFlight is how many requests may wait for their answers. When all do, the rate is what it is.
	maxInFlight = 64
	// requestTimeout is longer than the producer's own, so that the producer gets to say what went wrong.
	requestTimeout = 15 * time.Second
	// sensors is how many there are of each kind.
	sensors = 20
	// catchUp is how far behind the rate may fall and still be made up for. A database that was away for a minute should
	// not be greeted with what it missed.
	catchUp = time.Second
)

// sendTraffic posts random signals to the producer at a site until ctx ends, and waits for all answers.
func sendTraffic(ctx context.Context, site string, rate int, l *ledger) {
	if rate == 0 {
		<-ctx.Done()
		return
	}
	// Not the default transport: its proxy settings and its limit of two idle connections are for the world outside.
	transport := &http.Transport{MaxIdleConnsPerHost: maxInFlight}
	defer transport.CloseIdleConnections() // or the server would wait for them
	client := &http.Client{Transport: transport, Timeout: requestTimeout}
	senders := pool.New().WithMaxGoroutines(maxInFlight)
	defer senders.Wait()

	interval := time.Second / time.Duration(rate)
	var last time.Time
	for next := time.Now(); waitUntil(ctx, next); next = next.Add(interval) {
		if late := time.Now().Add(-catchUp); next.Before(late) {
			next = late
		}
		signal := producer.Random()
		signal.Name = fmt.Sprintf("%s-%d", signal.Name, 1+rand.IntN(sensors)) // many keys, so that each worker has some
		// Each microsecond only once: it is part of the signal's mark.
		signal.Timestamp = time.Now().UTC().Truncate(time.Microsecond)
		if !signal.Timestamp.After(last) {
			signal.Timestamp = last.Add(time.Microsecond)
		}
		last = signal.Timestamp
		senders.Go(func() {
			l.sending(signal)
			l.sent(signal, post(client, site+"/ingest", signal))
		})
	}
}

// waitUntil reports false if ctx ended.
func waitUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// post sends a signal and returns nil if it is stored. What was begun is finished, so there is no context.
func post(client *http.Client, url string, signal producer.Signal) error {
	body, err := json.Marshal(map[string]any{"name": signal.Name, "value": signal.Value, "timestamp": signal.Timestamp})
	if err != nil {
		return err
	}
	response, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		var refusal struct{ Error string }
		_ = json.Unmarshal(answer, &refusal) // without a reason, the status has to do
		return fmt.Errorf("%s: %s", response.Status, refusal.Error)
	}
	return nil
}

// siteOf is the URL at which a listener's HTTP is reached from this machine.
func siteOf(address net.Addr) string {
	tcp := address.(*net.TCPAddr)
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}
