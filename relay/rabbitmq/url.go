package rabbitmq

import (
	"fmt"
	"net/url"
	"os"

	"github.com/signalbox-go/signalbox/relay/internal/query"
)

// FromURL returns the sink of a URL: amqp://host:5672/vhost, or amqps:// with TLS. Without a path, the virtual host is "/". The user may be in
// it, and so may the password; better keep that in a file or in the environment. Parameters, and the variables of the environment that
// stand in for them:
//
//	exchange               -                  Config.Exchange
//	password-file          RABBITMQ_PASSWORD  a file with the password (the variable has the password); RABBITMQ_USER has the user
//	ca                     RABBITMQ_CA        Config.CAFile
//	cert, key              RABBITMQ_CERT, RABBITMQ_KEY
//	max-pending, ack-timeout
func FromURL(u *url.URL) (*Sink, error) {
	c, err := fromURL(u, os.Getenv)
	if err != nil {
		return nil, err
	}
	return New(c)
}

func fromURL(u *url.URL, getenv func(string) string) (Config, error) {
	if u.Scheme != "amqp" && u.Scheme != "amqps" {
		return Config{}, fmt.Errorf("%w: the URL begins with %s:, must be amqp: or amqps:", ErrInvalidConfig, u.Scheme)
	}
	server := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	c := Config{URL: server.String(), User: u.User.Username()}
	c.Password, _ = u.User.Password()

	q := query.Read(u, getenv)
	c.Exchange = q.String("exchange", "")
	password := q.Secret("password-file", "RABBITMQ_PASSWORD")
	c.CAFile = q.String("ca", "RABBITMQ_CA")
	c.CertFile = q.String("cert", "RABBITMQ_CERT")
	c.KeyFile = q.String("key", "RABBITMQ_KEY")
	c.MaxPending = q.Count("max-pending")
	c.AckTimeout = q.Duration("ack-timeout")
	if err := q.Err(); err != nil {
		return Config{}, fmt.Errorf("%w: URL: %w", ErrInvalidConfig, err)
	}
	if c.User == "" {
		c.User = getenv("RABBITMQ_USER")
	}
	if c.Password == "" {
		c.Password = password
	}
	return c, nil
}
