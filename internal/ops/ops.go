// Package ops serves what operators want to know of a producer or a worker, on an address of its own, which is not for the
// public.
//
//	/healthz, /readyz   whether the process lives, and whether it serves
//	/metrics            for Prometheus, with those of the Go runtime and of the process
//	/debug/pprof/       profiles
package ops

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sourcegraph/conc/pool"

	"github.com/signalbox-go/signalbox/internal/cli"
)

// Flags is the part of a command's flags about its admin address. Embed it.
type Flags struct {
	Admin string `placeholder:"ADDR" help:"Serve /healthz, /readyz, /metrics and /debug/pprof/ here, such as 127.0.0.1:8081. Not for the public."`
}

// NewHandler returns the handler: health answers /healthz and /readyz, and the collectors' metrics are served beside those
// of the process. Each handler has a registry of its own.
func NewHandler(health http.Handler, list ...prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(list...)

	mux := http.NewServeMux()
	mux.Handle("GET /healthz", health)
	mux.Handle("GET /readyz", health)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		ErrorHandling: promhttp.ContinueOnError, // one that fails must not take the others along
	}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// WithAdmin calls run and answers with handler meanwhile, until run has returned; if Admin is not set, it only calls run. The line
// "admin is listening" of the log has the address.
func (f Flags) WithAdmin(ctx context.Context, logger *slog.Logger, handler http.Handler, run func(context.Context) error) error {
	if f.Admin == "" {
		return run(ctx)
	}
	listener, err := net.Listen("tcp", f.Admin)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --admin", err)
	}
	logger.Info("admin is listening", "address", listener.Addr().String())
	both := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	both.Go(func(ctx context.Context) error {
		defer stop() // healthy until the last of it is done
		return run(ctx)
	})
	both.Go(func(context.Context) error { return cli.Serve(serving, listener, until(serving, handler)) })
	return both.Wait()
}

// until ends the requests' contexts with ctx: a profile that is being taken must not hold up the end of the process.
func until(ctx context.Context, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, r *http.Request) {
		request, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		handler.ServeHTTP(response, r.WithContext(request))
	})
}
