package ops_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/signalbox-go/signalbox/internal/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broken fails when it is asked.
type broken struct{ description *prometheus.Desc }

func (b broken) Describe(d chan<- *prometheus.Desc) { d <- b.description }

func (b broken) Collect(m chan<- prometheus.Metric) {
	m <- prometheus.NewInvalidMetric(b.description, errors.New("broken"))
}

func TestHandler(t *testing.T) {
	t.Parallel()
	health := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "health of "+r.URL.Path) })
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "tests_total", Help: "Tests."})
	handler := ops.NewHandler(health, counter, broken{prometheus.NewDesc("broken", "Broken.", nil, nil)})
	for _, test := range []struct {
		method, path string
		code         int
		want         string
	}{
		{"GET", "/healthz", 200, "health of /healthz"},
		{"GET", "/readyz", 200, "health of /readyz"},
		{"GET", "/metrics", 200, "tests_total 0"},
		{"GET", "/metrics", 200, "go_goroutines "},
		{"GET", "/metrics", 200, "process_cpu_seconds_total "},
		{"GET", "/debug/pprof/", 200, "goroutine"},
		{"GET", "/debug/pprof/goroutine?debug=1", 200, "goroutine profile"},
		{"GET", "/debug/pprof/cmdline", 200, "test"},
		{"GET", "/debug/pprof/symbol", 200, "num_symbols"},
		{"GET", "/", 404, ""},
		{"POST", "/metrics", 405, ""},
	} {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), test.method, test.path, nil))
		if recorder.Code != test.code || !strings.Contains(recorder.Body.String(), test.want) {
			t.Errorf("%s %s: got %d, want %d with %q:\n%s", test.method, test.path, recorder.Code, test.code, test.want, recorder.Body)
		}
	}
}

// TestEndsWithRun has a request under way when the work is done: it is told, and holds up nothing.
func TestEndsWithRun(t *testing.T) {
	t.Parallel()
	arrived, told := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(told)
	})
	addresses := make(chan string, 1)
	log := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "address" {
			addresses <- a.Value.String()
		}
		return a
	}}))
	failure := errors.New("of the work")
	err := ops.Flags{Admin: "127.0.0.1:0"}.WithAdmin(t.Context(), log, handler, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+<-addresses, nil)
		if err != nil {
			return err
		}
		go func() {
			if response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request); err == nil {
				_ = response.Body.Close()
			}
		}()
		<-arrived
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	<-told
}

func TestWithoutAddress(t *testing.T) {
	t.Parallel()
	ran := false
	err := ops.Flags{}.WithAdmin(t.Context(), slog.New(slog.DiscardHandler), nil, func(context.Context) error { ran = true; return nil })
	if err != nil || !ran {
		t.Errorf("got %v, ran: %t", err, ran)
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	err = ops.Flags{Admin: taken.Addr().String()}.WithAdmin(t.Context(), slog.New(slog.DiscardHandler), nil, func(context.Context) error {
		t.Error("it runs anyway")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "--admin") {
		t.Errorf("got %v", err)
	}
}
