// Package query reads the parameters of a sink's URL. What is wrong with them is one error that names them, and never a value that may be
// secret.
package query

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Reader reads parameters. Each may come from a variable of the environment instead.
type Reader struct {
	values url.Values
	getenv func(string) string
	known  []string
	err    error // the first fault
}

// Read begins to read the parameters of a URL.
func Read(u *url.URL, getenv func(string) string) *Reader {
	r := &Reader{getenv: getenv}
	var err error
	if r.values, err = url.ParseQuery(u.RawQuery); err != nil {
		r.err = errors.New("the part after ? is not NAME=VALUE&NAME=VALUE, with % and ; written as %25 and %3B")
	}
	return r
}

// String returns a parameter, or else the variable of the environment if it has a name.
func (r *Reader) String(name, variable string) string {
	r.known = append(r.known, name)
	switch values := r.values[name]; {
	case len(values) > 1:
		r.fault("%s is given %d times, give it once", name, len(values))
	case len(values) == 1 && values[0] == "":
		r.fault("%s is empty, give it a value or leave it out", name)
	case len(values) == 1:
		return values[0]
	}
	if variable == "" {
		return ""
	}
	return r.getenv(variable)
}

// Count returns a number from 1, or 0 if the parameter is not given.
func (r *Reader) Count(name string) int {
	text := r.String(name, "")
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		r.fault("%s is %q, must be a number from 1", name, text)
	}
	return n
}

// Bool returns true or false, and whether the parameter is given.
func (r *Reader) Bool(name string) (value, given bool) {
	text := r.String(name, "")
	if text == "" {
		return false, false
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		r.fault("%s is %q, must be true or false", name, text)
	}
	return value, true
}

// Duration returns a duration above 0, or 0 if the parameter is not given.
func (r *Reader) Duration(name string) time.Duration {
	text := r.String(name, "")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		r.fault("%s is %q, must be a duration such as 10s or 2m", name, text)
	}
	return d
}

// Secret returns what is in the file that a parameter names, without the end of the last line, or else the variable of the environment.
func (r *Reader) Secret(name, variable string) string {
	file := r.String(name, "")
	if file == "" {
		return r.getenv(variable)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		r.fault("%s: %w", name, err)
	}
	return strings.TrimRight(string(text), "\r\n")
}

// Err returns what is wrong first: with the parameters that were read, or with those that were not, which are unknown.
func (r *Reader) Err() error {
	for name := range r.values {
		if !slices.Contains(r.known, name) {
			r.fault("there is no parameter %q, use %s", name, strings.Join(r.known, ", "))
		}
	}
	return r.err
}

func (r *Reader) fault(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}
