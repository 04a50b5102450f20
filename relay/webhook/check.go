package webhook

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// Check connects to the endpoints of destinations, over TLS where their URL says so, and sends nothing. Without destinations, it takes all
// that the file has. The error has a line for each endpoint that cannot be reached.
func (s *Sink) Check(ctx context.Context, destinations []string) error {
	switch {
	case s.single:
		destinations = []string{""}
	case len(destinations) == 0 && s.file != nil:
		destinations = slices.Collect(maps.Keys(s.file.contents.Load().Endpoints))
	}
	destinations = slices.Compact(slices.Sorted(slices.Values(destinations)))
	errs := make([]error, len(destinations))
	var group errgroup.Group
	group.SetLimit(16)
	for i, name := range destinations {
		group.Go(func() error {
			t, err := s.target(ctx, name)
			if err == nil {
				err = t.connect(ctx)
			}
			errs[i] = err
			return nil
		})
	}
	_ = group.Wait() // it has none
	return errors.Join(errs...)
}

// connect opens a connection, and closes it.
func (t *target) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	u, err := url.Parse(t.url)
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme // the name of the service is as good
	}
	conn, err := t.transport.NewClientConn(ctx, u.Scheme, net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return fmt.Errorf("endpoint %s: connect: %w%s", shown(t.name), err, advice(err))
	}
	return conn.Close()
}

// advice is what to do about a connection that fails, as far as the cause is known.
func advice(err error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		lookup    *net.DNSError
	)
	switch {
	case errors.As(err, &authority):
		return ": set ca_file to the authority that signed its certificate"
	case errors.As(err, &name):
		return ": correct the host of the URL, or the receiver's certificate"
	case errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &lookup), errors.Is(err, context.DeadlineExceeded):
		return ": start the receiver, or correct the URL"
	}
	return ""
}
