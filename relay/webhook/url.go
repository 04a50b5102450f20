package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// The environment variables that [FromURL] reads where the URL does not say otherwise.
const (
	SecretVariable     = "WEBHOOK_SECRET"      // one secret or several, with spaces between them
	SecretFileVariable = "WEBHOOK_SECRET_FILE" // a file that has them
	AllowVariable      = "WEBHOOK_ALLOW"       // networks that may be reached although they are private, with commas between them
)

// FromURL returns a sink for one endpoint, https://host/path?query, or for a file of them, webhook:/path/endpoints.yaml.
//
// Options are in the fragment, since all the rest is the receiver's: https://host/path#secret_file=/run/secrets/hook&timeout=5s.
// They are secret_env (the name of a variable), secret_file, unsigned, timeout, concurrency, ca_file, cert_file and key_file for one
// endpoint; allow, proxy and requests for both. Without secret_env or secret_file, the secret comes from WEBHOOK_SECRET or
// WEBHOOK_SECRET_FILE, and without allow, the networks from WEBHOOK_ALLOW.
func FromURL(u *url.URL) (*Sink, error) {
	cfg, err := configOf(u)
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return New(cfg)
}

func configOf(u *url.URL) (Config, error) {
	set, err := url.ParseQuery(u.Fragment)
	if err != nil {
		return Config{}, errors.New("options behind # must be like timeout=5s&allow=10.0.0.0/8")
	}
	o := options{set: set}
	cfg := Config{Concurrency: o.number("requests"), Allow: o.networks()}
	if proxy := o.take("proxy"); proxy != "" {
		if cfg.Proxy, err = url.Parse(proxy); err != nil || cfg.Proxy.Host == "" {
			o.refuse("proxy", "must be a URL such as http://proxy:3128")
		}
	}
	switch u.Scheme {
	case "webhook":
		cfg.File = u.Opaque + u.Path
		if cfg.File == "" || u.Host != "" {
			return Config{}, errors.New("write webhook:/path/endpoints.yaml")
		}
	case "http", "https":
		bare := *u
		bare.Fragment, bare.RawFragment = "", ""
		cfg.Endpoint = &Endpoint{
			URL: bare.String(), Unsigned: o.flag("unsigned"), Timeout: o.duration("timeout"), Concurrency: o.number("concurrency"),
			CAFile: o.take("ca_file"), CertFile: o.take("cert_file"), KeyFile: o.take("key_file"),
		}
		cfg.Endpoint.Secrets = o.secrets(cfg.Endpoint.Unsigned)
	default:
		return Config{}, fmt.Errorf("scheme is %q, must be https, http or webhook", u.Scheme)
	}
	for name := range o.set {
		o.refuse(name, "is not an option here")
	}
	return cfg, errors.Join(o.errs...)
}

// options are read one by one. What is left is unknown.
type options struct {
	set  url.Values
	errs []error
}

func (o *options) take(name string) string {
	value := o.set.Get(name)
	delete(o.set, name)
	return value
}

func (o *options) refuse(name, why string) {
	o.errs = append(o.errs, fmt.Errorf("option %s %s", name, why))
}

func (o *options) number(name string) int {
	value := o.take(name)
	if value == "" {
		return 0
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		o.refuse(name, "must be a number of at least 1")
	}
	return n
}

func (o *options) duration(name string) time.Duration {
	value := o.take(name)
	if value == "" {
		return 0
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		o.refuse(name, "must be a duration such as 10s")
	}
	return d
}

func (o *options) flag(name string) bool {
	value := o.take(name)
	if value == "" {
		return false
	}
	is, err := strconv.ParseBool(value)
	if err != nil {
		o.refuse(name, "must be true or false")
	}
	return is
}

func (o *options) networks() []netip.Prefix {
	value := o.take("allow")
	if value == "" {
		value = os.Getenv(AllowVariable)
	}
	var networks []netip.Prefix
	for _, part := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }) {
		network, err := netip.ParsePrefix(part)
		if err != nil {
			o.refuse("allow", "(or "+AllowVariable+") must be networks such as 10.0.0.0/8, with commas between them")
			continue
		}
		networks = append(networks, network)
	}
	return networks
}

// secrets reads what signs. Nothing of it is in an error.
func (o *options) secrets(unsigned bool) []Secret {
	variable, file := o.take("secret_env"), o.take("secret_file")
	switch {
	case variable != "" && file != "":
		o.refuse("secret_file", "and secret_env are both set: choose one")
		return nil
	case unsigned:
		return nil // what the environment has is for others
	case variable == "" && file == "":
		variable, file = SecretVariable, os.Getenv(SecretFileVariable)
		if os.Getenv(variable) != "" {
			file = ""
		}
	}
	text := os.Getenv(variable)
	if file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			o.errs = append(o.errs, fmt.Errorf("read secret: %w", err))
			return nil
		}
		text = string(raw)
	}
	var secrets []Secret
	for _, secret := range strings.Fields(text) {
		secrets = append(secrets, NewSecret(secret))
	}
	if len(secrets) == 0 {
		o.errs = append(o.errs, fmt.Errorf("there is no secret: set %s or %s, or the option secret_env or secret_file", SecretVariable, SecretFileVariable))
	}
	return secrets
}
