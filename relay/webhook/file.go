package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"
)

// lookAgain is how often the file is looked at.
const lookAgain = time.Second

// contents are what a file of endpoints has.
type contents struct {
	// Defaults has what endpoints do not say. A destination that is a URL and not the name of an endpoint has all of it.
	Defaults  Endpoint            `yaml:"defaults"`
	Endpoints map[string]Endpoint `yaml:"endpoints"`
}

// urls reports whether destinations may be URLs.
func (c *contents) urls() bool { return len(c.Defaults.Secrets) > 0 || c.Defaults.Unsigned }

// A file of endpoints is read again when it changes.
type file struct {
	path     string
	contents atomic.Pointer[contents]
	failed   atomic.Int64 // how many times it was not valid
	stop     context.CancelFunc
	stopped  sync.WaitGroup
}

// open reads a file, and watches it until it is closed.
func (s *Sink) open(path string) (*file, error) {
	f := &file{path: path}
	seen, err := look(path)
	if err != nil {
		return nil, fmt.Errorf("read endpoints: %w", err)
	}
	if err := s.load(f, seen); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	f.stopped.Go(func() { s.follow(ctx, f, seen) })
	return f, nil
}

func (f *file) close() {
	f.stop()
	f.stopped.Wait()
}

// A version of a file is another one also if it was only touched.
type version struct {
	at  time.Time
	raw string
	err string // why it could not be read
}

// look reads the file, through the links that Kubernetes puts in its place.
func look(path string) (version, error) {
	info, err := os.Stat(path)
	if err != nil {
		return version{err: err.Error()}, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return version{err: err.Error()}, err
	}
	return version{at: info.ModTime(), raw: string(raw)}, nil
}

// follow looks at the file from time to time: its name may be a link, and its folder on a network, where no notification is sure.
func (s *Sink) follow(ctx context.Context, f *file, seen version) {
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	c := changes{seen: seen, last: seen}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now, err := look(f.path); c.changed(now) {
			s.again(f, now, err)
		}
	}
}

// Changes tells when a file has changed: once it has stayed the same for two looks. One that is half written may be valid, and lack endpoints,
// whose messages would become dead letters.
type changes struct{ seen, last version }

func (c *changes) changed(now version) bool {
	is := now != c.seen && now == c.last
	if c.last = now; is {
		c.seen = now
	}
	return is
}

// again takes over a file that has changed. One that is not valid changes nothing.
func (s *Sink) again(f *file, now version, err error) {
	if err == nil { // certificates may have changed, too
		err = s.transports.renew(func() error { return s.load(f, now) })
	}
	if err != nil {
		f.failed.Add(1)
		s.log.Error("webhook endpoints are not read: those from before stay", "file", f.path, "error", err)
		return
	}
	s.enableAll()
	s.log.Info("webhook endpoints are read", "file", f.path, "endpoints", len(f.contents.Load().Endpoints))
}

// load takes over what a file has, if all of it is valid.
func (s *Sink) load(f *file, v version) error {
	c, err := parse([]byte(v.raw))
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	var errs []error
	for name, e := range c.Endpoints {
		e = e.or(c.Defaults)
		c.Endpoints[name] = e
		if _, err := s.compile(name, e); err != nil {
			errs = append(errs, err)
		}
	}
	switch {
	case c.Defaults.URL != "":
		errs = append(errs, errors.New("defaults: they cannot have a URL"))
	case len(c.Endpoints) == 0 && !c.urls():
		errs = append(errs, errors.New("it has no endpoints: add one, or say in defaults how messages to URLs are signed"))
	}
	if len(errs) > 0 {
		return fmt.Errorf("%s: %w", f.path, errors.Join(errs...))
	}
	f.contents.Store(c)
	return nil
}

// quoted is what errors of the YAML package show of a file: it may be a secret.
var quoted = regexp.MustCompile("`[^`]*`|" + secretPrefix + `\S*`)

func parse(raw []byte) (*contents, error) {
	c := &contents{}
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(quoted.ReplaceAllString(err.Error(), redacted))
	}
	return c, nil
}

// or fills in what an endpoint does not say.
func (e Endpoint) or(defaults Endpoint) Endpoint {
	if len(e.Secrets) == 0 && !e.Unsigned {
		e.Secrets, e.Unsigned = defaults.Secrets, defaults.Unsigned
	}
	headers := map[string]Secret{}
	for _, some := range []map[string]Secret{defaults.Headers, e.Headers} {
		for name, value := range some {
			headers[name] = value
		}
	}
	e.Headers = headers
	if e.Timeout == 0 {
		e.Timeout = defaults.Timeout
	}
	if e.Concurrency == 0 {
		e.Concurrency = defaults.Concurrency
	}
	if e.CAFile == "" {
		e.CAFile = defaults.CAFile
	}
	if e.CertFile == "" && e.KeyFile == "" {
		e.CertFile, e.KeyFile = defaults.CertFile, defaults.KeyFile
	}
	return e
}

// endpoint returns the endpoint of a name. A URL that is no name is one itself, with the defaults, if these say how to sign.
func (f *file) endpoint(_ context.Context, name string) (Endpoint, error) {
	c := f.contents.Load()
	if e, found := c.Endpoints[name]; found {
		return e, nil
	}
	// Only https: what an event says is not what an operator says.
	if u, err := url.Parse(name); err == nil && u.Scheme == "https" && u.Host != "" && c.urls() {
		return Endpoint{URL: name}.or(c.Defaults), nil
	}
	return Endpoint{}, fmt.Errorf("%w in %s", ErrUnknownEndpoint, f.path)
}
