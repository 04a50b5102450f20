package outside_test

import (
	"errors"
	"os"
	"testing"

	"github.com/signalbox-go/signalbox/brokers/outside"
)

func TestHost(t *testing.T) {
	t.Parallel()
	host := outside.New(t.Context())
	var order []int
	dir := ""
	if err := host.Do(func(tb testing.TB) {
		dir = tb.TempDir()
		tb.Cleanup(func() { order = append(order, 1) })
		tb.Cleanup(func() { order = append(order, 2) })
		if tb.Context() != t.Context() {
			t.Error("another context")
		}
	}); err != nil {
		t.Fatal(err)
	}
	went := false
	if err := host.Do(func(tb testing.TB) { tb.Fatalf("no %s", "server"); went = true }); err == nil || err.Error() != "no server" || went {
		t.Errorf("ends with %v", err)
	}
	if err := host.Do(func(tb testing.TB) { tb.Skip("needs a server"); went = true }); !errors.Is(err, outside.ErrLacks) || went {
		t.Errorf("ends with %v", err)
	}
	if _, err := os.Stat(dir); err != nil || len(order) != 0 {
		t.Errorf("ended too early: %v, %v", err, order)
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil || len(order) != 2 || order[0] != 2 {
		t.Errorf("left %s, ended %v", dir, order)
	}
}
