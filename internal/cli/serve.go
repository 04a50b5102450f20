package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// What one client can take up, in time and memory, before it is cut off.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = time.Minute // the whole request: a batch of 16 MiB over a slow line
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
	drainTimeout      = 10 * time.Second
)

// Serve answers HTTP requests on listener, which it closes, until ctx is cancelled. Then it takes no new ones, gives those
// that are running 10 seconds to finish, and returns nil; if some have not, it cuts them off and says so.
//
// The requests' own contexts do not end with ctx. What the server has to say goes to slog's default logger.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	return serve(ctx, listener, handler, drainTimeout)
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler, patience time.Duration) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	select {
	case err := <-served: // never nil
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	err := server.Shutdown(drain)
	<-served //nolint:errcheck // it is http.ErrServerClosed
	if err != nil {
		_ = server.Close() // what is left has had its time
		return fmt.Errorf("cut off requests that were still running after %s: %w", patience, err)
	}
	return nil
}
