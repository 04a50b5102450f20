package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	connectTimeout = 10 * time.Second // RabbitMQ says nothing for 3 s when the password is wrong
	heartbeat      = 5 * time.Second  // a server that says nothing is left after three of them …
	writeTimeout   = 15 * time.Second // … and one that reads nothing after this
)

// dial opens a connection.
func (s *Sink) dial(ctx context.Context) (*amqp.Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	tlsConfig, err := s.config.tls()
	if err != nil {
		return nil, err
	}
	address, vhost := s.config.address()
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName("signalbox relay")
	conn, err := amqp.DialConfig(address, amqp.Config{
		SASL: s.config.credentials(), Vhost: vhost, Heartbeat: heartbeat, TLSClientConfig: tlsConfig, Properties: properties,
		Dial: func(network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			limited := &limitedConn{Conn: conn}
			deadline, _ := ctx.Deadline()
			return limited, limited.SetDeadline(deadline) // of the handshakes, after which the client takes it away
		},
	})
	if err != nil {
		if conn != nil {
			closeConnection(conn)
		}
		return nil, s.away(err)
	}
	return conn, nil
}

// A limitedConn gives each write a time. The client sets none, and while it waits in one it cannot even close the connection.
type limitedConn struct {
	net.Conn
	deadline atomic.Pointer[time.Time] // that the client has set
}

func (c *limitedConn) SetDeadline(t time.Time) error {
	c.deadline.Store(&t)
	return c.Conn.SetDeadline(t)
}

func (c *limitedConn) Write(b []byte) (int, error) {
	deadline := time.Now().Add(writeTimeout)
	if set := c.deadline.Load(); !set.IsZero() && set.Before(deadline) {
		deadline = *set
	}
	if err := c.SetWriteDeadline(deadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// closeConnection ends a connection in any case, also one whose server does not answer.
func closeConnection(conn *amqp.Connection) { _ = conn.CloseDeadline(time.Now().Add(time.Second)) }

// away says that there is no connection, and what to do about it as far as the cause is known.
func (s *Sink) away(cause error) error {
	address, vhost := s.config.address()
	hint := ""
	var refusal *amqp.Error
	switch text := cause.Error(); {
	case errors.Is(cause, amqp.ErrCredentials), errors.As(cause, &refusal) && refusal.Code == amqp.AccessRefused:
		hint = fmt.Sprintf(": correct the user %q or its password", s.config.User)
	case errors.Is(cause, amqp.ErrVhost), errors.As(cause, &refusal) && refusal.Code == amqp.NotAllowed:
		hint = fmt.Sprintf(": create the virtual host %q, and give user %q access to it", vhost, s.config.User)
	case strings.Contains(text, "unknown authority"):
		hint = ": set the CA file to the one that signed the certificate of the server"
	case strings.Contains(text, "tls: first record does not look like"):
		hint = ": the server speaks no TLS there, use the port for amqps:"
	case strings.Contains(text, "tls:"):
		hint = ": if the server demands a client certificate, set one that it trusts"
	case strings.Contains(text, "connection refused"), strings.Contains(text, "timeout"), strings.Contains(text, "no such host"):
		hint = ": start the server, or correct the address"
	}
	return fmt.Errorf("not connected to %s: %w%s", address, cause, hint)
}
