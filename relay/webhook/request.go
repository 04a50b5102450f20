package webhook

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/signalbox-go/signalbox/relay"
)

// post sends a message, once, and follows no redirect.
func (t *target) post(ctx context.Context, m *relay.Message) result {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := t.request(traced, m, began)
	if err != nil {
		return result{kind: refuses, err: err}
	}
	res, err := t.transport.RoundTrip(req) // without a Client: it would follow redirects, and put the URL into errors
	switch {
	case err == nil:
		defer res.Body.Close()
		text := ""
		if res.StatusCode != http.StatusSwitchingProtocols { // its body is the connection, which no context ends
			text = excerpt(res.Body, cancel)
		}
		return answered(res, text, time.Now())
	case errors.Is(ctx.Err(), context.Canceled): // the worker stops
		return result{kind: interrupted, err: ctx.Err()}
	case refused(err):
		return result{kind: refuses, err: err}
	case limited.Err() != nil:
		err = fmt.Errorf("no answer within %v", time.Since(began).Round(time.Millisecond))
	}
	if !connected.Load() {
		return result{kind: unreachable, err: err}
	}
	return result{kind: fails, err: err}
}

// request is the message as Standard Webhooks has it.
func (t *target) request(ctx context.Context, m *relay.Message, now time.Time) (*http.Request, error) {
	body := m.Body
	if body == nil {
		body = []byte("null") // webhooks know no tombstones
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range m.Headers {
		name = strings.Replace(strings.ToLower(name), "ce_", "ce-", 1) // as CloudEvents has it in HTTP; proxies drop names with an underscore
		if !reserved(name) {
			req.Header.Set(escapeName(name), escapeValue(value))
		}
	}
	req.Header.Set("Content-Type", escapeValue(cmp.Or(m.ContentType, "application/json")))
	req.Header.Set("User-Agent", "Signalbox")
	for name, value := range t.definition.Headers {
		req.Header.Set(name, escapeValue(value.reveal()))
	}
	id, signatures := escapeValue(m.ID), []string(nil)
	for _, signer := range t.signers {
		signature, err := signer.Sign(id, now, body)
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		signatures = append(signatures, signature)
	}
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	if len(signatures) > 0 {
		req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	}
	return req, nil
}

// reserved reports whether a header is not for events to set: what makes up the request, or the connection.
func reserved(name string) bool {
	switch name = strings.ToLower(name); name {
	case "host", "content-length", "content-type", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect", "accept-encoding":
		return true
	default:
		return name == "" || strings.HasPrefix(name, "proxy-") || strings.HasPrefix(name, "webhook-")
	}
}

// escapeName and escapeValue write what a header cannot hold with percent signs, as CloudEvents does: nothing of an event is dropped.
func escapeName(name string) string {
	return escape(name, func(b byte) bool {
		return '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
	})
}

func escapeValue(value string) string {
	return escape(value, func(b byte) bool { return ' ' <= b && b <= '~' })
}

func escape(text string, fits func(byte) bool) string {
	var escaped strings.Builder
	for i := range len(text) {
		if b := text[i]; fits(b) {
			escaped.WriteByte(b)
		} else {
			fmt.Fprintf(&escaped, "%%%02X", b)
		}
	}
	return escaped.String()
}

const (
	excerptMost = 512
	drainMost   = 64 << 10
	drainTime   = time.Second
)

// excerpt returns the beginning of an answer's body. It reads on for a moment, since a connection can be used again once a short body is
// read; cancel ends a body that takes longer.
func excerpt(body io.Reader, cancel func()) string {
	timer := time.AfterFunc(drainTime, cancel)
	defer timer.Stop()
	begin := make([]byte, excerptMost)
	n, err := io.ReadFull(body, begin)
	if err == nil {
		_, _ = io.CopyN(io.Discard, body, drainMost)
	}
	return string(begin[:n])
}
