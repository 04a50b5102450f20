package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
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

var parameters = []string{
	"auto-topic-creation", "ca", "cert", "client-id", "compression", "key", "max-buffered-bytes", "max-buffered-records", "max-message-bytes",
	"password-env", "password-file", "sasl", "server-name", "tls",
}

func fromURL(u *url.URL) (Config, error) {
	if u.Scheme != "kafka" {
		return Config{}, fmt.Errorf("the scheme is %q, must be kafka", u.Scheme)
	}
	if _, has := u.User.Password(); has {
		return Config{}, errors.New("it has a password: put it into the environment variable KAFKA_PASSWORD, or into a file that password-file names")
	}
	if u.Path != "" && u.Path != "/" {
		return Config{}, errors.New("it has a path: remove it; topics come from the routes")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Config{}, errors.New("its parameters cannot be read: separate them by &, and escape their values")
	}
	for name, values := range query {
		if !slices.Contains(parameters, name) {
			return Config{}, fmt.Errorf("there is no parameter %q: it has %s", name, strings.Join(parameters, ", "))
		}
		if len(values) > 1 {
			return Config{}, fmt.Errorf("parameter %s is there %d times: give it once", name, len(values))
		}
	}
	c := Config{ClientID: query.Get("client-id"), Compression: query.Get("compression")}
	for broker := range strings.SplitSeq(u.Host, ",") {
		if broker == "" {
			return Config{}, errors.New("the address of a broker is empty: write them as kafka://host:9092,host:9092")
		}
		c.Brokers = append(c.Brokers, broker)
	}
	for name, field := range map[string]*int{
		"max-message-bytes": &c.MaxMessageBytes, "max-buffered-records": &c.MaxBufferedRecords, "max-buffered-bytes": &c.MaxBufferedBytes,
		"auto-topic-creation": &c.AutoTopicCreation,
	} {
		if value := query.Get(name); value != "" {
			if *field, err = strconv.Atoi(value); err != nil {
				return Config{}, fmt.Errorf("parameter %s is %q, must be a number", name, value)
			}
		}
	}
	if c.TLS, err = tlsFrom(query); err != nil {
		return Config{}, err
	}
	if c.SASL, err = saslFrom(u.User.Username(), query); err != nil {
		return Config{}, err
	}
	_, err = c.withDefaults()
	return c, err
}

func tlsFrom(query url.Values) (*tls.Config, error) {
	ca, cert, key, name := query.Get("ca"), query.Get("cert"), query.Get("key"), query.Get("server-name")
	on := ca+cert+key+name != ""
	if value := query.Get("tls"); value != "" {
		wanted, err := strconv.ParseBool(value)
		if err != nil {
			return nil, fmt.Errorf("parameter tls is %q, must be true or false", value)
		}
		if !wanted && on {
			return nil, errors.New("parameter tls is false, and others are about TLS: remove one or the other")
		}
		on = wanted
	}
	if !on {
		return nil, nil //nolint:nilnil // no TLS
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("parameter ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("parameter ca: %s has no certificate in PEM form", ca)
		}
	}
	if cert+key != "" {
		if cert == "" || key == "" {
			return nil, errors.New("parameters cert and key belong together: give both")
		}
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("parameters cert and key: %w", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() } // they are renewed
	}
	return c, nil
}

func saslFrom(user string, query url.Values) (*SASL, error) {
	mechanism, file, env := query.Get("sasl"), query.Get("password-file"), query.Get("password-env")
	switch {
	case mechanism == "" && user+file+env == "":
		return nil, nil //nolint:nilnil // no SASL
	case mechanism == "":
		return nil, errors.New("it has a user or a password, and no parameter sasl: add sasl=PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
	case file != "" && env != "":
		return nil, errors.New("it has both password-file and password-env: remove one")
	}
	s := &SASL{Mechanism: mechanism, User: user}
	switch {
	case file != "":
		s.Secret = SecretFile(file)
	case env != "":
		s.Secret = SecretEnv(env)
	default:
		s.Secret = SecretEnv("KAFKA_PASSWORD")
	}
	_, err := s.mechanism()
	return s, err
}
