package nats

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/signalbox-go/signalbox/relay/internal/query"
)

// FromURL returns the configuration that a URL stands for:
//
//	nats://localhost:4222
//	tls://user@a.example:4222,b.example:4222?password-file=/run/secrets/nats&ca=/etc/nats/ca.pem
//
// tls: insists on TLS. The port defaults to 4222. What a parameter does not say is taken from a variable of the environment, as by the command
// nats:
//
//   - creds=FILE, or NATS_CREDS: [Config.CredentialsFile]. nkey=FILE, or NATS_NKEY: [Config.NKeyFile].
//   - password-file=FILE: the password is in this file; or NATS_PASSWORD has it. The user is that of the URL, or of NATS_USER.
//   - token-file=FILE: the token is in this file; or NATS_TOKEN has it.
//   - ca=FILE, cert=FILE and key=FILE, or NATS_CA, NATS_CERT and NATS_KEY: [Config.CAFile], CertFile and KeyFile.
//   - max-pending, ack-timeout, min-duplicate-window: as in [Config].
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
	case u.Scheme != "nats" && u.Scheme != "tls":
		return Config{}, fmt.Errorf("the scheme is %q, must be nats or tls", u.Scheme)
	case password:
		return Config{}, errors.New("it has a password: put it into the environment variable NATS_PASSWORD, or into a file that password-file names")
	case u.Path != "" && u.Path != "/":
		return Config{}, errors.New("it has a path: remove it; subjects come from the routes")
	case u.Host == "":
		return Config{}, errors.New("it has no host: write one such as nats://localhost:4222")
	}
	var servers []string
	for host := range strings.SplitSeq(u.Host, ",") {
		servers = append(servers, u.Scheme+"://"+withPort(host))
	}
	q := query.Read(u, getenv)
	c := Config{
		URL:                strings.Join(servers, ","),
		User:               u.User.Username(),
		Password:           q.Secret("password-file", "NATS_PASSWORD"),
		Token:              q.Secret("token-file", "NATS_TOKEN"),
		CredentialsFile:    q.String("creds", "NATS_CREDS"),
		NKeyFile:           q.String("nkey", "NATS_NKEY"),
		CAFile:             q.String("ca", "NATS_CA"),
		CertFile:           q.String("cert", "NATS_CERT"),
		KeyFile:            q.String("key", "NATS_KEY"),
		MaxPending:         q.Count("max-pending"),
		AckTimeout:         q.Duration("ack-timeout"),
		MinDuplicateWindow: q.Duration("min-duplicate-window"),
	}
	if c.User == "" {
		c.User = getenv("NATS_USER")
	}
	return c, q.Err()
}

// withPort adds the default port to a host that has none.
func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), "4222")
}
