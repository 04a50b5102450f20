package kafka

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/signalbox-go/signalbox/internal/needs"
)

// New starts a broker for this test alone, which may kill it. It ends with the test, which is skipped where Java or Maven are missing.
func New(t testing.TB) *Broker { return NewBehind(t, nil) }

// NewBehind is New for a broker that is behind something: advertise is called with the address of a listener more, and returns the one
// that this tells its clients.
func NewBehind(t testing.TB, advertise func(address string) (string, error)) *Broker {
	t.Helper()
	b, err := start(t.Context(), t, advertise)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.remove)
	return b
}

var shared struct {
	sync.Mutex
	broker *Broker
	err    error
}

// Shared returns the broker that the tests of a package share. It must not be killed, and ends with [Main].
func Shared(t testing.TB) *Broker {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.broker == nil && shared.err == nil {
		shared.broker, shared.err = start(context.Background(), t, nil)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.broker
}

// Main runs the tests of a package and ends their shared broker. It does not return.
func Main(m *testing.M) {
	code := m.Run()
	if shared.broker != nil {
		shared.broker.remove()
	}
	os.Exit(code)
}

func start(ctx context.Context, t testing.TB, advertise func(address string) (string, error)) (*Broker, error) {
	t.Helper()
	java := needs.Program(t, "apt-get install default-jre-headless", "java")
	maven := needs.Program(t, "apt-get install maven", "mvn")
	jars, err := install(ctx, maven)
	if err != nil {
		needs.Lacks(t, "Apache Kafka's jars", "see that Maven reaches its repository ("+err.Error()+")")
	}
	folder, err := os.MkdirTemp("", "kafka-")
	if err != nil {
		return nil, err
	}
	b, err := create(ctx, java, jars, folder, advertise)
	if err == nil {
		err = b.Start(ctx)
	}
	if err != nil {
		_ = os.RemoveAll(folder)
		return nil, err
	}
	return b, nil
}

func (b *Broker) remove() {
	b.Kill()
	_ = os.RemoveAll(b.folder)
}
