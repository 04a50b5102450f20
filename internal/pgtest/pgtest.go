// Package pgtest gives each test a PostgreSQL database of its own.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// and its tests call New. The first call starts a cluster for the test process (see package embeddedpg) and migrates a
// template; each database is a copy of that, so it costs milliseconds. TEST_DATABASE_URL names a running server to use
// instead; its role must be allowed to create databases. Tests fail, and never skip, where neither is to be had.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
)

// patience bounds each thing done around a test, so that a hanging server fails with a name instead of a test timeout.
const patience = 2 * time.Minute

// Durability is off in tests: they kill servers, not the machine.
var (
	sharedSettings = map[string]string{"fsync": "off"}
	// A killed server's shared memory would stay in the system's folder for it: put it into the server's own.
	privateSettings = map[string]string{"fsync": "off", "dynamic_shared_memory_type": "mmap", "max_prepared_transactions": "10"}
)

// Main runs the tests of a package, stops what they started, cleans up, and then looks for goroutines that they leaked.
// It does not return.
func Main(m *testing.M, cleanups ...func()) { goleak.VerifyTestMain(run{m, cleanups}) }

// run puts the end of the cluster between the tests and goleak.
type run struct {
	m        *testing.M
	cleanups []func()
}

func (r run) Run() int {
	code := r.m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	for _, cleanup := range r.cleanups {
		cleanup()
	}
	return code
}

// Server starts a cluster for this test alone, which may kill it. It is stopped at the end of the test.
func Server(t testing.TB) *embeddedpg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := embeddedpg.Start(ctx, embeddedpg.Config{Settings: privateSettings})
	return keep(t, server, err)
}

// ServerOf is Server with the programs of a folder, and with more settings.
func ServerOf(t testing.TB, bin string, settings map[string]string) *embeddedpg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	all := maps.Clone(privateSettings)
	maps.Copy(all, settings)
	server, err := embeddedpg.Start(ctx, embeddedpg.Config{Bin: bin, Settings: all})
	return keep(t, server, err)
}

// Copy starts a server for this test on a physical copy of another's files, as of now. It is stopped at the end of the test.
func Copy(t testing.TB, of *embeddedpg.Server) *embeddedpg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := of.Copy(ctx)
	return keep(t, server, err)
}

// Standby starts a server for this test that follows another. It is stopped at the end of the test.
func Standby(t testing.TB, of *embeddedpg.Server) *embeddedpg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := of.Standby(ctx)
	return keep(t, server, err)
}

// Upgrade starts a server for this test on what pg_upgrade makes of another, which is over then, with the programs of a folder or, if
// that is "", of the other. It is stopped at the end of the test.
func Upgrade(t testing.TB, of *embeddedpg.Server, bin string) *embeddedpg.Server {
	t.Helper()
	server, err := TryUpgrade(t, of, bin)
	return keep(t, server, err)
}

// TryUpgrade is Upgrade for a test that wants it to fail: then the other server can be restarted.
func TryUpgrade(t testing.TB, of *embeddedpg.Server, bin string) (*embeddedpg.Server, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return of.Upgrade(ctx, bin, privateSettings)
}

func keep(t testing.TB, server *embeddedpg.Server, err error) *embeddedpg.Server {
	t.Helper()
	if err != nil {
		t.Fatalf("start a PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop PostgreSQL: %v", err)
		}
	})
	return server
}

// shared is the cluster of this process.
var shared cluster

// A cluster starts when the first test asks for it.
type cluster struct {
	mu       sync.Mutex
	started  bool
	err      error              // of the start, for all who ask later
	server   *embeddedpg.Server // nil with TEST_DATABASE_URL
	url      func(database string) string
	admin    string // URL of a database to create others from
	template string // name of the migrated database that New copies; "" until New is called
}

// start makes the cluster usable. Callers hold the lock.
func (c *cluster) start(ctx context.Context) error {
	if c.started {
		return c.err
	}
	c.started = true
	if given := os.Getenv("TEST_DATABASE_URL"); given != "" {
		c.admin = given
		c.url, c.err = databaseURLs(given)
		return c.err
	}
	c.server, c.err = embeddedpg.Start(ctx, embeddedpg.Config{
		Logf:     func(format string, args ...any) { fmt.Fprintf(os.Stderr, "pgtest: "+format+"\n", args...) },
		Settings: sharedSettings,
	})
	if c.err != nil {
		c.err = fmt.Errorf("%w; or set TEST_DATABASE_URL to a server where the tests may create databases", c.err)
		return c.err
	}
	c.admin, c.url = c.server.URL("postgres"), c.server.URL
	return nil
}

// stop leaves nothing: the cluster goes with all its databases, a foreign server is rid of the template.
func (c *cluster) stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if c.template != "" && c.server == nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err = c.drop(ctx, c.template)
	}
	if c.server != nil {
		err = errors.Join(err, c.server.Stop())
	}
	return err
}
