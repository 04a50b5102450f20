package webhook

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	defaultTimeout     = 15 * time.Second
	defaultConcurrency = 8
	secretPrefix       = "whsec_"
	// What Standard Webhooks asks of a secret, in bytes.
	secretLeast, secretMost = 24, 64
)

// ErrUnknownEndpoint says that there is no endpoint of a name: its messages become dead letters. Config.Endpoints returns it.
var ErrUnknownEndpoint = errors.New("unknown endpoint")

// errFiles says that files of certificates are not there, or not what they should be.
var errFiles = errors.New("its certificates cannot be used")

// An Endpoint is where messages are sent to, and how.
type Endpoint struct {
	// URL takes the messages. What it needs besides its name, such as a password, belongs into Headers.
	URL string `yaml:"url"`

	// Secrets sign each message, each with a signature of its own, in the form of Standard Webhooks: whsec_ and 24 to 64 bytes in base64.
	// To replace one, put the new one beside it, and remove the old one once the receiver knows the new one.
	Secrets []Secret `yaml:"secrets"`

	// Unsigned sends messages without a signature: an endpoint without Secrets is refused otherwise.
	Unsigned bool `yaml:"unsigned"`

	// Headers are added to each request, such as Authorization. They replace headers of events.
	Headers map[string]Secret `yaml:"headers"`

	// Timeout is how long a request may take, from the connection to the end of the answer. Defaults to 15 s.
	Timeout time.Duration `yaml:"timeout"`

	// Concurrency is how many requests of different keys may run at the same time. Defaults to 8.
	Concurrency int `yaml:"concurrency"`

	// CAFile has the certificates that sign the endpoint's, in PEM. Defaults to those of the system.
	CAFile string `yaml:"ca_file"`

	// CertFile and KeyFile have the certificate and the key to show to the endpoint, in PEM. They are read for each new connection.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// A Secret is text that is printed nowhere: it shows as "redacted", or as an address where package fmt does not ask it.
type Secret struct {
	text *string // fmt follows no pointers inside of values, also not in fields that are not exported, or for verbs that do not fit
}

// NewSecret returns a secret with a text.
func NewSecret(text string) Secret { return Secret{&text} }

const redacted = "redacted"

func (s Secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String returns "redacted".
func (Secret) String() string { return redacted }

// GoString returns "redacted".
func (Secret) GoString() string { return redacted }

// LogValue returns "redacted".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "redacted".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText takes the text of the secret.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// A target is an endpoint that was found right.
type target struct {
	name       string
	definition Endpoint
	url        string
	signers    []*standardwebhooks.Webhook
	transport  *http.Transport
}

// compile checks an endpoint. The error names no secret, nor the path of the URL, which may be one.
func (s *Sink) compile(name string, e Endpoint) (*target, error) {
	t := &target{name: name, definition: e}
	if err := t.compile(); err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", shown(name), err)
	}
	var err error
	if t.transport, err = s.transports.of(tlsFiles{e.CAFile, e.CertFile, e.KeyFile}); err != nil {
		return nil, fmt.Errorf("endpoint %s: %w: %w", shown(name), errFiles, err)
	}
	return t, nil
}

func (t *target) compile() error {
	e := &t.definition
	u, err := url.Parse(e.URL)
	switch {
	case err != nil:
		return errors.New("its URL cannot be parsed")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return errors.New("its URL must begin with https:// (or http://) and a host")
	case u.User != nil:
		return errors.New("its URL has a user or a password: put them into the header Authorization")
	case e.Timeout < 0:
		return fmt.Errorf("timeout is %v, must not be negative", e.Timeout)
	case e.Concurrency < 0:
		return fmt.Errorf("concurrency is %d, must not be negative", e.Concurrency)
	case len(e.Secrets) == 0 && !e.Unsigned:
		return errors.New("it has no secret: add one, or say that its messages are unsigned")
	case len(e.Secrets) > 0 && e.Unsigned:
		return errors.New("it has secrets and is unsigned: choose one")
	case (e.CertFile == "") != (e.KeyFile == ""):
		return errors.New("a certificate needs its key, and a key its certificate: set both")
	}
	u.Fragment = ""
	t.url = u.String()
	for name := range e.Headers {
		if reserved(name) || escapeName(name) != name {
			return fmt.Errorf("header %q cannot be set", name)
		}
	}
	for i, secret := range e.Secrets {
		signer, err := signerOf(secret)
		if err != nil {
			return fmt.Errorf("secret %d: %w", i+1, err)
		}
		t.signers = append(t.signers, signer)
	}
	return nil
}

func signerOf(secret Secret) (*standardwebhooks.Webhook, error) {
	encoded, found := strings.CutPrefix(secret.reveal(), secretPrefix)
	if !found {
		return nil, errors.New("it must begin with " + secretPrefix)
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New("it is not base64 behind " + secretPrefix)
	}
	if len(raw) < secretLeast || len(raw) > secretMost {
		return nil, fmt.Errorf(`it has %d bytes, must have %d to %d: make one with echo "whsec_$(openssl rand -base64 32)"`, len(raw), secretLeast, secretMost)
	}
	return standardwebhooks.NewWebhookRaw(raw)
}

func (t *target) timeout() time.Duration { return cmp.Or(t.definition.Timeout, defaultTimeout) }
func (t *target) concurrency() int       { return cmp.Or(t.definition.Concurrency, defaultConcurrency) }

// shown is the name of an endpoint as logs and errors have it: of a URL, what is behind the host may be a secret.
func shown(name string) string {
	u, err := url.Parse(name)
	if err != nil || u.Host == "" {
		return fmt.Sprintf("%q", name)
	}
	return u.Scheme + "://" + u.Host
}
