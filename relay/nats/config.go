package nats

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrInvalidConfig matches every error about a Config or a URL with errors.Is.
var ErrInvalidConfig = errors.New("invalid NATS configuration")

// Config configures a Sink.
type Config struct {
	// URL has the servers to begin with, such as "nats://localhost:4222", or "tls://a.example:4222,tls://b.example:4222" of a cluster: the
	// others are found through them. It has no password in it. Required.
	URL string

	// User and Password, or Token, or CredentialsFile (a .creds file), or NKeyFile (a file with a seed) say who connects. Files are read
	// again for each connection. Defaults to an anonymous connection.
	User, Password, Token     string
	CredentialsFile, NKeyFile string

	// CAFile has the certificates, in PEM, that the server's is verified with. With it, the connection uses TLS. Defaults to those of the
	// system.
	CAFile string

	// CertFile and KeyFile have the certificate and key, in PEM, that the sink shows to the server. Defaults to none.
	CertFile, KeyFile string

	// MaxPending is how many messages may be in flight; Send waits while there are as many. Defaults to 1024.
	MaxPending int

	// AckTimeout is how long a stream may take to acknowledge a message; after that, the message is tried again. Defaults to 10s.
	AckTimeout time.Duration

	// MinDuplicateWindow is the duplicate window that streams should have: Check warns of one that has less. It should be longer than the
	// worker's lease and the longest delay between attempts together. Defaults to 2m, the default of streams.
	MinDuplicateWindow time.Duration

	// Logger receives warnings, such as a lost connection. Defaults to slog.Default().
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	invalid := func(format string, args ...any) (Config, error) {
		return c, fmt.Errorf("%w: %s", ErrInvalidConfig, fmt.Sprintf(format, args...))
	}
	if c.URL == "" {
		return invalid("URL is empty, give it a server such as nats://localhost:4222")
	}
	for server := range strings.SplitSeq(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil || u.Hostname() == "" || u.Scheme != "nats" && u.Scheme != "tls" {
			return invalid("URL must list servers such as nats://host:4222 or tls://host:4222, separated by commas")
		}
		if u.User != nil {
			return invalid("URL has a user or password in it, use User and Password")
		}
	}
	ways := 0
	for _, way := range []string{c.User, c.Token, c.CredentialsFile, c.NKeyFile} {
		if way != "" {
			ways++
		}
	}
	switch {
	case ways > 1:
		return invalid("User, Token, CredentialsFile and NKeyFile exclude each other, set one")
	case c.Password != "" && c.User == "":
		return invalid("there is a Password, and no User")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return invalid("CertFile and KeyFile belong together, set both or none")
	case c.MaxPending < 0 || c.AckTimeout < 0 || c.MinDuplicateWindow < 0:
		return invalid("MaxPending, AckTimeout and MinDuplicateWindow must not be negative")
	}
	if c.MaxPending == 0 {
		c.MaxPending = 1024
	}
	if c.AckTimeout == 0 {
		c.AckTimeout = 10 * time.Second
	}
	if c.MinDuplicateWindow == 0 {
		c.MinDuplicateWindow = 2 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// options returns those of every connection: a short one of Check, and the lasting one.
func (c Config) options() ([]nats.Option, error) {
	options := []nats.Option{
		nats.Name("signalbox relay"),
		nats.Timeout(connectTimeout),
		nats.PingInterval(5 * time.Second), // so that a server that does not answer is left after 10 to 15 s, not 4 min
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(c.AckTimeout),
	}
	switch {
	case c.User != "":
		options = append(options, nats.UserInfo(c.User, c.Password))
	case c.Token != "":
		options = append(options, nats.Token(c.Token))
	case c.CredentialsFile != "":
		options = append(options, nats.UserCredentials(c.CredentialsFile))
	case c.NKeyFile != "":
		option, err := nats.NkeyOptionFromSeed(c.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("%w: NKeyFile: %w", ErrInvalidConfig, err)
		}
		options = append(options, option)
	}
	if c.CAFile != "" {
		options = append(options, nats.RootCAs(c.CAFile))
	}
	if c.CertFile != "" {
		options = append(options, nats.ClientCert(c.CertFile, c.KeyFile))
	}
	// The client reads files when it connects. What is wrong with them should be said before.
	if err := c.tryFiles(options); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	return options, nil
}

func (c Config) tryFiles(options []nats.Option) error {
	if c.CredentialsFile != "" {
		if _, err := os.ReadFile(c.CredentialsFile); err != nil {
			return err
		}
	}
	var ignored nats.Options
	for _, option := range options {
		if err := option(&ignored); err != nil {
			return err
		}
	}
	return nil
}

const connectTimeout = 3 * time.Second
