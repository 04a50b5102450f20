package rabbitmq

import (
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/signalbox-go/signalbox/relay/internal/query"
)

// FromURL returns the configuration that a URL stands for:
//
//	amqp://localhost:5672/?exchange=events
//	amqps://user@mq.example/shop?exchange=events&password-file=/run/secrets/rabbitmq&ca=/etc/rabbitmq/ca.pem
//
// amqps: means TLS. The path is the virtual host; without one, it is "/". What a parameter does not say is taken from a variable of the
// environment:
//
//   - exchange: as in [Config].
//   - password-file=FILE: the password is in this file; or RABBITMQ_PASSWORD has it. The user is that of the URL, or of RABBITMQ_USER.
//   - ca=FILE, cert=FILE and key=FILE, or RABBITMQ_CA, RABBITMQ_CERT and RABBITMQ_KEY: [Config.CAFile], CertFile and KeyFile.
//   - max-pending, ack-timeout: as in [Config].
//
// A URL is seen in lists of processes and in logs, so a password in it is refused.
func FromURL(u *url.URL) (Config, error) {
	c, err := fromURL(u, os.Getenv)
	if err != nil {
		return Config{}, fmt.Errorf("%w: URL: %w", ErrInvalidConfig, err)
	}
	_, err = c.withDefaults()
	return c, err
}

func fromURL(u *url.URL, getenv func(string) string) (Config, error) {
	_, password := u.User.Password()
	switch {
	case u.Scheme != "amqp" && u.Scheme != "amqps":
		return Config{}, fmt.Errorf("the scheme is %q, must be amqp or amqps", u.Scheme)
	case password:
		return Config{}, errors.New("it has a password: put it into the environment variable RABBITMQ_PASSWORD, or into a file that password-file names")
	}
	server := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	q := query.Read(u, getenv)
	c := Config{
		URL:        server.String(),
		User:       u.User.Username(),
		Password:   q.Secret("password-file", "RABBITMQ_PASSWORD"),
		Exchange:   q.String("exchange", ""),
		CAFile:     q.String("ca", "RABBITMQ_CA"),
		CertFile:   q.String("cert", "RABBITMQ_CERT"),
		KeyFile:    q.String("key", "RABBITMQ_KEY"),
		MaxPending: q.Count("max-pending"),
		AckTimeout: q.Duration("ack-timeout"),
	}
	if c.User == "" {
		c.User = getenv("RABBITMQ_USER")
	}
	return c, q.Err()
}
