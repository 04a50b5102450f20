package otel

import (
	"maps"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/propagation"
)

// headers are those of an event or of a message, as propagators see them. Names are lower case, and found in any case, as W3C has it.
type headers map[string]string

var _ propagation.TextMapCarrier = headers(nil)

// Get returns the value of a header, or "".
func (h headers) Get(name string) string {
	if value, has := h[name]; has {
		return value
	}
	for other, value := range h {
		if strings.EqualFold(other, name) {
			return value
		}
	}
	return ""
}

// Set replaces a header.
func (h headers) Set(name, value string) {
	h.remove(name)
	h[name] = value
}

// Keys returns the names.
func (h headers) Keys() []string { return slices.Collect(maps.Keys(h)) }

func (h headers) remove(name string) {
	maps.DeleteFunc(h, func(other, _ string) bool { return strings.EqualFold(other, name) })
}
