package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestInOrder sorts events that come in any order: none is lost, none comes twice, and each keeps what it has.
func TestInOrder(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	for n := range 200 {
		events := make([]Event, n)
		for i, id := range random.Perm(n) {
			events[i].ID, events[i].Key = int64(id), fmt.Sprint("key of ", id)
		}
		events = inOrder(events)
		if len(events) != n {
			t.Fatalf("%d of %d events are left", len(events), n)
		}
		for i := range events {
			if want := fmt.Sprint("key of ", i); events[i].ID != int64(i) || events[i].Key != want {
				t.Fatalf("of %d events, number %d has id %d and %q", n, i, events[i].ID, events[i].Key)
			}
		}
	}
}
