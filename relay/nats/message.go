package nats

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/signalbox-go/signalbox/relay"
)

// message returns what is published. The error says why no server would take it.
func message(m *relay.Message) (*nats.Msg, error) {
	if fault := subjectFault(m.Destination); fault != "" {
		return nil, fmt.Errorf("cannot publish to subject %q: %s", m.Destination, fault)
	}
	header := make(nats.Header, len(m.Headers)+2)
	for name, value := range m.Headers {
		// Headers that begin so tell a stream what to do: to purge a subject, to expire the message. Events only carry data.
		if len(name) >= len(instructions) && strings.EqualFold(name[:len(instructions)], instructions) {
			continue
		}
		header[name] = []string{value}
	}
	if m.ContentType != "" {
		header["Content-Type"] = []string{m.ContentType}
	}
	header[jetstream.MsgIDHeader] = []string{m.ID}
	return &nats.Msg{Subject: m.Destination, Header: header, Data: m.Body}, nil
}

const instructions = "Nats-"

// subjectFault says what is wrong with a subject, if anything is. The server would take some of these for something else.
func subjectFault(subject string) string {
	if strings.ContainsFunc(subject, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "it has a space or a control character"
	}
	for token := range strings.SplitSeq(subject, ".") {
		switch token {
		case "":
			return "it has an empty token"
		case "*", ">":
			return "it is a wildcard"
		}
	}
	if strings.HasPrefix(subject, "$JS.") || strings.HasPrefix(subject, "$SYS.") {
		return "it is one of those that command the server"
	}
	return ""
}
