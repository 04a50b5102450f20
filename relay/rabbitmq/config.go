package rabbitmq

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// ErrInvalidConfig matches every error about a Config or a URL with errors.Is.
var ErrInvalidConfig = errors.New("invalid RabbitMQ configuration")

// Config configures a Sink.
type Config struct {
	// URL has the server and the virtual host, such as "amqp://localhost:5672/" for the host "/", or "amqps://mq.example/shop" for "shop",
	// with TLS. A name of several addresses serves for a cluster: they are tried in turn. It has no password in it. Required.
	URL string

	// User and Password say who connects. Defaults to guest and guest, which RabbitMQ accepts only from its own machine.
	User, Password string

	// Exchange receives all messages, so that destinations are routing keys. Defaults to none: destinations name the exchange.
	Exchange string

	// CAFile has the certificates, in PEM, that the server's is verified with. It is read for each connection, as the next two are. Defaults
	// to those of the system.
	CAFile string

	// CertFile and KeyFile have the certificate and key, in PEM, that the sink shows to the server. Defaults to none.
	CertFile, KeyFile string

	// MaxPending is how many messages may be in flight; Send waits while there are as many. Defaults to 1024.
	MaxPending int

	// AckTimeout is how long RabbitMQ may take to confirm a message; after that, the message is tried again. Defaults to 30s.
	AckTimeout time.Duration
}

func (c Config) withDefaults() (Config, error) {
	invalid := func(format string, args ...any) (Config, error) {
		return c, fmt.Errorf("%w: %s", ErrInvalidConfig, fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "amqp" && u.Scheme != "amqps":
		return invalid("URL must be a server such as amqp://localhost:5672/ or amqps://mq.example/vhost")
	case u.User != nil:
		return invalid("URL has a user or password in it, use User and Password")
	case u.RawQuery != "":
		return invalid("URL has parameters, use FromURL")
	case u.Scheme == "amqp" && c.CAFile+c.CertFile != "":
		return invalid("there are files for TLS, and the URL is amqp: without it, use amqps:")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return invalid("CertFile and KeyFile belong together, set both or none")
	case c.Password != "" && c.User == "":
		return invalid("there is a Password, and no User")
	case len(c.Exchange) > maxShort:
		return invalid("Exchange has %d bytes, at most %d are allowed", len(c.Exchange), maxShort)
	case c.MaxPending < 0 || c.AckTimeout < 0:
		return invalid("MaxPending and AckTimeout must not be negative")
	}
	if c.User == "" {
		c.User, c.Password = "guest", "guest"
	}
	if c.MaxPending == 0 {
		c.MaxPending = 1024
	}
	if c.AckTimeout == 0 {
		c.AckTimeout = 30 * time.Second
	}
	if _, err := c.tls(); err != nil {
		return invalid("%v", err)
	}
	return c, nil
}

// address returns the URL as the client takes it, and the virtual host.
func (c Config) address() (string, string) {
	u, _ := url.Parse(c.URL) // withDefaults has
	vhost := strings.TrimPrefix(u.Path, "/")
	if vhost == "" {
		vhost = "/"
	}
	return u.Scheme + "://" + u.Host, vhost
}

func (c Config) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CAFile: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CAFile: %s has no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("CertFile and KeyFile: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

func (c Config) credentials() []amqp.Authentication {
	return []amqp.Authentication{&amqp.PlainAuth{Username: c.User, Password: c.Password}}
}
