package metrics

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// other is the name under which what is beyond a cap is counted.
const other = "other"

// A named keeps something for each of the first most names, and one thing for all the others. Looking up takes no lock and
// allocates nothing. Safe for concurrent use.
type named[T any] struct {
	most   int
	create func(label string) T

	mu   sync.Mutex // held to add
	have atomic.Pointer[map[string]T]
}

func newNamed[T any](most int, create func(label string) T) *named[T] {
	n := &named[T]{most: most, create: create}
	n.have.Store(&map[string]T{})
	return n
}

func (n *named[T]) get(name string) T {
	have := *n.have.Load()
	if t, ok := have[name]; ok {
		return t
	}
	if len(have) >= n.most {
		if t, ok := have[other]; ok {
			return t
		}
	}
	return n.add(name)
}

// add puts a copy of the map with one more name in its place.
func (n *named[T]) add(name string) T {
	n.mu.Lock()
	defer n.mu.Unlock()
	have := *n.have.Load()
	if _, ok := have[name]; !ok && len(have) >= n.most {
		name = other
	}
	if t, ok := have[name]; ok {
		return t
	}
	have = maps.Clone(have)
	name = strings.Clone(name) // it may be part of something larger
	t := n.create(label(name))
	have[name] = t
	n.have.Store(&have)
	return t
}

// label is a name as the value of a label, which has to be UTF-8: a database may have been told to take anything.
func label(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }
