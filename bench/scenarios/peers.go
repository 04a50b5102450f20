package scenarios

import (
	"slices"
	"strings"

	"github.com/signalbox-go/signalbox/bench/systems"
)

// best tells a system at its best settings, of those that have two.
func best(s systems.System) bool {
	name := s.Info().Name
	return strings.HasSuffix(name, "-best") || name == "queue"
}

// peers returns the systems that are not ours and fulfil a condition.
func (e *env) peers(which func(systems.System) bool) []systems.System {
	return slices.DeleteFunc(slices.Clone(e.Systems[1:]), func(s systems.System) bool { return !which(s) })
}

// ourselvesAnd returns Signalbox and such peers.
func (e *env) ourselvesAnd(which func(systems.System) bool) []systems.System {
	return append([]systems.System{e.Systems[0]}, e.peers(which)...)
}
