package main

import (
	"slices"
	"strings"

	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// best tells a system at its best settings, of those that have two.
func best(s systems.System) bool {
	name := s.Info().Name
	return strings.HasSuffix(name, "-best") || name == "queue"
}

// others returns the systems that are not ours and fulfil a condition.
func others(e *stage.Env, which func(systems.System) bool) []systems.System {
	return slices.DeleteFunc(slices.Clone(e.Systems[1:]), func(s systems.System) bool { return !which(s) })
}

// ourselvesAnd returns Signalbox and such peers.
func ourselvesAnd(e *stage.Env, which func(systems.System) bool) []systems.System {
	return append([]systems.System{e.Systems[0]}, others(e, which)...)
}
