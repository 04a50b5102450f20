// Package peers has what Signalbox is compared with. Each is used through its own API, in the way its documentation advises, and has
// one file here.
package peers

import (
	"fmt"
	"slices"
	"strings"

	"github.com/signalbox-go/signalbox/bench/systems"
)

// All returns the systems that are compared, Signalbox first.
func All() []systems.System {
	return []systems.System{
		systems.New(),
		newRiver(false), newRiver(true),
		newWatermill(false), newWatermill(true),
		newGue(false), newGue(true),
		queue{},
	}
}

// Choose returns Signalbox and those whose names begin with one of the given prefixes, or all if none is given.
func Choose(prefixes []string) ([]systems.System, error) {
	all := All()
	if len(prefixes) == 0 {
		return all, nil
	}
	for _, p := range prefixes {
		if !slices.ContainsFunc(systems.Names(all), func(name string) bool { return strings.HasPrefix(name, p) }) {
			return nil, fmt.Errorf("no system's name begins with %q: there are %s", p, strings.Join(systems.Names(all), ", "))
		}
	}
	return slices.DeleteFunc(all, func(s systems.System) bool {
		name := s.Info().Name
		return name != systems.Signalbox && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	}), nil
}
