package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/signalbox-go/signalbox/internal/proc"
)

// receiverRole makes this program a receiver of webhooks, with a receiverConfig. It writes each message down before it takes it.
const receiverRole proc.Role = "SIGNALBOX_CHAOS_RECEIVER"

type receiverConfig struct {
	Address   string
	Folder    string // of the messages and signs
	Cert, Key string // files
}

// largestRequest is what a receiver takes at most.
const largestRequest = 32 << 10

// signs are the files in a receiver's folder that begin its faults, by name.
var signs = map[string]string{receiverFull: "full", receiverBusy: "busy"}

func (c receiverConfig) messages() string { return filepath.Join(c.Folder, "messages") }

// is reports whether a fault has begun and not ended.
func (c receiverConfig) is(fault string) bool {
	_, err := os.Stat(filepath.Join(c.Folder, signs[fault]))
	return err == nil
}

// A taken is a line of what a receiver has.
type taken struct {
	ID     string          `json:"id"`
	Sender string          `json:"sender"`
	Body   json.RawMessage `json:"body"`
}

// runReceiver is the life of a receiver's process. It returns its exit code.
func runReceiver() int {
	proc.EndWithParent()
	var cfg receiverConfig
	err := receiverRole.Config(&cfg)
	if err == nil {
		err = receive(cfg)
	}
	fmt.Fprintln(os.Stderr, err)
	return 2
}

func receive(cfg receiverConfig) error {
	file, err := os.OpenFile(cfg.messages(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr: cfg.Address, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0), // connections break all the time
		Handler:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(take(cfg, file, w, r)) }),
	}
	return server.ListenAndServeTLS(cfg.Cert, cfg.Key)
}

// take writes a message down, and returns the status of the answer.
func take(cfg receiverConfig, file io.Writer, w http.ResponseWriter, r *http.Request) int {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestRequest))
	switch {
	case cfg.is(receiverFull):
		return http.StatusInsufficientStorage
	case cfg.is(receiverBusy):
		w.Header().Set("Retry-After", "1")
		return http.StatusTooManyRequests
	case len(body) == largestRequest:
		return http.StatusRequestEntityTooLarge
	case err != nil:
		return http.StatusBadRequest
	}
	line, err := json.Marshal(taken{r.Header.Get("Webhook-Id"), r.Header.Get(senderHeader), body})
	if err != nil {
		return http.StatusBadRequest
	}
	if _, err := file.Write(append(append([]byte("\n"), line...), '\n')); err != nil { // one write, in a line of its own
		return http.StatusInsufficientStorage
	}
	return http.StatusNoContent
}

// readReceiver returns what a receiver has, in its order.
func readReceiver(cfg receiverConfig) ([]received, error) {
	text, err := os.ReadFile(cfg.messages())
	if err != nil {
		return nil, err
	}
	var list []received
	for line := range bytes.Lines(text) {
		var m taken
		if json.Unmarshal(line, &m) == nil { // else it is empty, or a kill has cut it off before it was taken
			list = append(list, newReceived(m.ID, m.Sender, m.Body))
		}
	}
	return list, nil
}
