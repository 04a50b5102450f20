package kafka

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/signalbox-go/signalbox/relay/internal/query"
)

// FromURL returns the configuration that a URL stands for:
//
//	kafka://broker1:9092,broker2:9092?compression=zstd
//	kafka://user@broker:9093?tls=true&sasl=SCRAM-SHA-512&password-file=/run/secrets/kafka
//
// Parameters:
//
//   - client-id, compression, max-message-bytes, max-buffered-records, max-buffered-bytes, auto-topic-creation: as in [Config].
//   - tls=true: encrypt connections. ca=FILE: trust these certificates instead of the system's. cert=FILE and key=FILE: the client's own
//     certificate. server-name=NAME: the name that the broker's certificate must be for. Each of these implies tls=true.
//   - sasl=MECHANISM: as in [SASL]. The user is that of the URL.
//   - password-file=FILE or password-env=NAME: where the password or token is. Defaults to the environment variable KAFKA_PASSWORD.
//
// A URL is seen in lists of processes and in logs, so a password in it is refused.
func FromURL(u *url.URL) (Config, error) {
	c, err := fromURL(u)
	if err != nil {
		return Config{}, fmt.Errorf("%w: URL: %w", ErrInvalidConfig, err)
	}
	return c, nil
}

func fromURL(u *url.URL) (Config, error) {
	_, password := u.User.Password()
	switch {
	case u.Scheme != "kafka":
		return Config{}, fmt.Errorf("the scheme is %q, must be kafka", u.Scheme)
	case password:
		return Config{}, errors.New("it has a password: put it into the environment variable KAFKA_PASSWORD, or into a file that password-file names")
	case u.Path != "" && u.Path != "/":
		return Config{}, errors.New("it has a path: remove it; topics come from the routes")
	}
	brokers := strings.Split(u.Host, ",")
	if slices.Contains(brokers, "") {
		return Config{}, errors.New("the address of a broker is empty: write them as kafka://host:9092,host:9092")
	}
	q := query.Read(u, os.Getenv)
	c := Config{
		Brokers:            brokers,
		ClientID:           q.String("client-id", ""),
		Compression:        q.String("compression", ""),
		MaxMessageBytes:    q.Count("max-message-bytes"),
		MaxBufferedRecords: q.Count("max-buffered-records"),
		MaxBufferedBytes:   q.Count("max-buffered-bytes"),
		AutoTopicCreation:  q.Count("auto-topic-creation"),
	}
	encryption, login := readTLS(q), readSASL(u.User.Username(), q)
	err := q.Err()
	if err == nil {
		c.TLS, err = encryption.config()
	}
	if err == nil {
		c.SASL, err = login.sasl()
	}
	if err == nil {
		_, err = c.withDefaults()
	}
	return c, err
}

// encryption is what a URL says of TLS.
type encryption struct {
	wanted, given             bool
	ca, cert, key, serverName string
}

func readTLS(q *query.Reader) encryption {
	e := encryption{ca: q.String("ca", ""), cert: q.String("cert", ""), key: q.String("key", ""), serverName: q.String("server-name", "")}
	e.wanted, e.given = q.Bool("tls")
	return e
}

func (e encryption) config() (*tls.Config, error) {
	implied := e.ca+e.cert+e.key+e.serverName != ""
	switch {
	case implied && e.given && !e.wanted:
		return nil, errors.New("tls is false, and other parameters are about TLS: remove one or the other")
	case !implied && !e.wanted:
		return nil, nil //nolint:nilnil // no TLS
	case (e.cert == "") != (e.key == ""):
		return nil, errors.New("cert and key belong together, give both")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: e.serverName}
	if e.ca != "" {
		pem, err := os.ReadFile(e.ca)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s has no certificate in PEM form", e.ca)
		}
	}
	if e.cert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(e.cert, e.key)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("cert and key: %w", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() } // they are renewed
	}
	return c, nil
}

// login is what a URL says of SASL.
type login struct{ user, mechanism, file, variable string }

func readSASL(user string, q *query.Reader) login {
	return login{user, q.String("sasl", ""), q.String("password-file", ""), q.String("password-env", "")}
}

// sasl does not read the secret: that is done for each connection, so that it may change.
func (l login) sasl() (*SASL, error) {
	switch {
	case l.mechanism == "" && l.user+l.file+l.variable == "":
		return nil, nil //nolint:nilnil // no SASL
	case l.mechanism == "":
		return nil, errors.New("it has a user or a password, and no parameter sasl: add sasl=PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
	case l.file != "" && l.variable != "":
		return nil, errors.New("it has both password-file and password-env: remove one")
	}
	s := &SASL{Mechanism: l.mechanism, User: l.user, Secret: SecretEnv(cmp.Or(l.variable, "KAFKA_PASSWORD"))}
	if l.file != "" {
		s.Secret = SecretFile(l.file)
	}
	_, err := s.mechanism()
	return s, err
}
