package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// SASL says how connections are authenticated.
type SASL struct {
	// Mechanism is "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512" or "OAUTHBEARER".
	Mechanism string

	// User is the name of the user. OAUTHBEARER has none.
	User string

	// Secret returns the password, or the token of OAUTHBEARER. It is called for each connection, so that secrets can change.
	Secret Secret
}

// A Secret returns a password or token.
type Secret func(context.Context) (string, error)

// SecretEnv returns the secret in a variable of the environment.
func SecretEnv(name string) Secret {
	return func(context.Context) (string, error) {
		if secret := os.Getenv(name); secret != "" {
			return secret, nil
		}
		return "", fmt.Errorf("the environment variable %s is empty: set it to the secret", name)
	}
}

// SecretFile returns the secret in a file, which is read for each connection. White space at its end does not count.
func SecretFile(path string) Secret {
	return func(context.Context) (string, error) {
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if secret := strings.TrimRight(string(content), " \t\r\n"); secret != "" {
			return secret, nil
		}
		return "", fmt.Errorf("the file %s is empty: write the secret to it", path)
	}
}

func (s *SASL) mechanism() (sasl.Mechanism, error) {
	if s.Secret == nil {
		return nil, errors.New("SASL has no Secret: set it, for example to kafka.SecretEnv(\"KAFKA_PASSWORD\")")
	}
	withUser := func(m sasl.Mechanism) (sasl.Mechanism, error) {
		if s.User == "" {
			return nil, fmt.Errorf("SASL has no User: %s needs one", s.Mechanism)
		}
		return m, nil
	}
	scramAuth := func(ctx context.Context) (scram.Auth, error) {
		password, err := s.Secret(ctx)
		return scram.Auth{User: s.User, Pass: password}, err
	}
	switch strings.ToUpper(s.Mechanism) {
	case "PLAIN":
		return withUser(plain.Plain(func(ctx context.Context) (plain.Auth, error) {
			password, err := s.Secret(ctx)
			return plain.Auth{User: s.User, Pass: password}, err
		}))
	case "SCRAM-SHA-256":
		return withUser(scram.Sha256(scramAuth))
	case "SCRAM-SHA-512":
		return withUser(scram.Sha512(scramAuth))
	case "OAUTHBEARER":
		return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, err := s.Secret(ctx)
			return oauth.Auth{Token: token}, err
		}), nil
	}
	return nil, fmt.Errorf("SASL mechanism is %q, must be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER", s.Mechanism)
}
