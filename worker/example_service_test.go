package worker_test

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/dashboard"
	"github.com/signalbox-go/signalbox/metrics"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/worker"
)

// A whole service: it migrates, handles events, answers its platform at /readyz and Prometheus at /metrics, shows the dashboard to
// administrators, and stops in an orderly way.
func Example_service() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	pool, err := pgxpool.New(ctx, "postgres://user:password@localhost:5432/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	listener, err := net.Listen("tcp", "localhost:8080")
	if err != nil {
		log.Fatal(err)
	}
	if err := serve(ctx, pool, listener); err != nil {
		log.Fatal(err)
	}
}

// serve runs the service until ctx ends.
func serve(ctx context.Context, pool *pgxpool.Pool, listener net.Listener) error {
	err := pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return apply.Up(ctx, conn.Conn(), migrations.Outbox) })
	if err != nil {
		return err
	}

	m, registry := metrics.New(metrics.Config{Pool: pool}), prometheus.NewRegistry()
	if err := registry.Register(m); err != nil {
		return err
	}
	w, err := worker.New(pool, worker.Config{Hooks: []worker.Hooks{m.Hooks()}, ShutdownTimeout: 20 * time.Second})
	if err != nil {
		return err
	}
	if err := worker.Handle(w, worker.Subscription{Name: "confirmations", Topics: []string{"orders.placed"}}, confirm); err != nil {
		return err
	}
	if err := worker.HandleTx(w, worker.Subscription{Name: "ledger", Topics: []string{"orders.>"}}, enter); err != nil {
		return err
	}

	d, err := dashboard.NewHandler(pool, dashboard.Config{Actor: func(r *http.Request) string { return r.Header.Get("X-User") }})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /readyz", func(rw http.ResponseWriter, _ *http.Request) {
		if err := w.Ready(); err != nil {
			http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		}
	})
	mux.Handle("/ops/outbox/", admins(http.StripPrefix("/ops/outbox", d)))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	server.RegisterOnShutdown(d.Close) // else those who watch hold up its end

	// Whichever ends first, by the signal or by an error, ends the other.
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.Run(ctx) })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		return server.Shutdown(last)
	})
	return group.Wait()
}

// admins stands for what the service has to tell who may come in.
func admins(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-User") != "admin" {
			http.Error(rw, "administrators only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(rw, r)
	})
}
