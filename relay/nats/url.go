package nats

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/signalbox-go/signalbox/relay/internal/query"
)

var getenv = os.Getenv

func fromURL(u *url.URL, getenv func(string) string) (Config, error) {
	if u.Scheme != "nats" && u.Scheme != "tls" {
		return Config{}, fmt.Errorf("%w: the URL begins with %s:, must be nats: or tls:", ErrInvalidConfig, u.Scheme)
	}
	if u.Path != "" && u.Path != "/" {
		return Config{}, fmt.Errorf("%w: the URL has a path, and NATS knows none: subjects come from the relay's route", ErrInvalidConfig)
	}
	if u.Host == "" {
		return Config{}, fmt.Errorf("%w: the URL has no host, write one such as nats://localhost:4222", ErrInvalidConfig)
	}
	var servers []string
	for host := range strings.SplitSeq(u.Host, ",") {
		servers = append(servers, u.Scheme+"://"+withPort(host))
	}
	c := Config{URL: strings.Join(servers, ","), User: u.User.Username()}
	c.Password, _ = u.User.Password()

	q := query.Read(u, getenv)
	password := q.Secret("password-file", "NATS_PASSWORD")
	c.Token = q.Secret("token-file", "NATS_TOKEN")
	c.CredentialsFile = q.String("creds", "NATS_CREDS")
	c.NKeyFile = q.String("nkey", "NATS_NKEY")
	c.CAFile = q.String("ca", "NATS_CA")
	c.CertFile = q.String("cert", "NATS_CERT")
	c.KeyFile = q.String("key", "NATS_KEY")
	c.MaxPending = q.Count("max-pending")
	c.AckTimeout = q.Duration("ack-timeout")
	c.MinDuplicateWindow = q.Duration("min-duplicate-window")
	if err := q.Err(); err != nil {
		return Config{}, fmt.Errorf("%w: URL: %w", ErrInvalidConfig, err)
	}
	if c.User == "" {
		c.User = getenv("NATS_USER")
	}
	if c.Password == "" {
		c.Password = password
	}
	return c, nil
}
