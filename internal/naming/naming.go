// Package naming lets several outboxes live in one database. Statements are written for the default one, whose schema is outbox; for
// another, they are rendered: its schema, its channel and its advisory locks take the place of the default's. The wrappers of this
// package do that to every statement that goes through them, so they are for statements of the project alone, never for those of
// handlers.
package naming

import (
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// ErrInvalid says that an outbox cannot have that name.
var ErrInvalid = errors.New("invalid name of an outbox")

// fallback is the name of the default outbox.
const fallback = "outbox"

// What the default outbox uses, besides its schema. Advisory locks of a database have two numbers, of which this is the first: one for
// the locks of the outbox, the next one for the ids of its workers. Statements have them as literals, so that they are rendered.
const (
	LockClass       = "7446925"
	WorkerLockClass = "7446926"

	channel = "new_signals"
	setting = "signalbox.last_id" // between two triggers of a statement, which may truncate several outboxes
)

// A Name is that of an outbox. Its zero value is the default outbox.
type Name string

// form leaves room for what is put around a name: identifiers of PostgreSQL have at most 63 bytes.
var form = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// Parse returns the Name of an outbox, or an error that is ErrInvalid.
func Parse(name string) (Name, error) {
	switch {
	case name == fallback:
		return "", nil
	case !form.MatchString(name):
		return "", fmt.Errorf("%w: %q does not match [a-z][a-z0-9_]{0,39}", ErrInvalid, name)
	case strings.HasPrefix(name, "pg_"):
		return "", fmt.Errorf("%w: %q begins with pg_, as PostgreSQL's own schemas do: choose another", ErrInvalid, name)
	case name == "signals": // its version table would be the one of the set of migrations with that name
		return "", fmt.Errorf("%w: %q is what the tables of the reference service are called: choose another", ErrInvalid, name)
	case shared.MatchString(name): // what is rendered would be rendered again
		return "", fmt.Errorf("%w: %q is a name that the default outbox uses: choose another", ErrInvalid, name)
	}
	return Name(name), nil
}

// Of returns the name of an outbox.Outbox, which has no other.
func Of(o fmt.Stringer) Name {
	n, _ := Parse(o.String())
	return n
}

// String returns the name, which is also the schema's.
func (n Name) String() string {
	if n == "" {
		return fallback
	}
	return string(n)
}

// Channel is where workers of the outbox listen.
func (n Name) Channel() string {
	if n == "" {
		return channel
	}
	return channel + "_" + string(n)
}

// Locks returns the first numbers of the outbox's advisory locks. Those of two names may be the same: the migrations refuse the second.
func (n Name) Locks() (class, worker string) {
	if n == "" {
		return LockClass, WorkerLockClass
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(n))
	// An odd number and the next, as the default's are, so that two names share both or none; and positive.
	odd := 2*(h.Sum32()%(1<<30-1)) + 1
	return strconv.FormatUint(uint64(odd), 10), strconv.FormatUint(uint64(odd+1), 10)
}

// The schema is quoted, since its name may be a word of SQL. That works within the quotes of a regclass, too.
func (n Name) quoted() string { return `"` + n.String() + `"` }

// shared is all that statements and migrations have of the default outbox's.
var shared = regexp.MustCompile(`\boutbox\.[a-z_]|\bschema outbox\b|'outbox'::regnamespace|\bnew_signals\b|\b` +
	LockClass + `\b|\b` + WorkerLockClass + `\b|\bsignalbox_outbox_version\b|\bsignalbox\.last_id\b`)

type statement struct {
	name Name
	sql  string
}

// rendered has statements by name and text. There are only as many as the code has.
var rendered sync.Map // from statement to string

// SQL renders a statement, which is kept: it is for those that are written in the code, and not for data.
func (n Name) SQL(sql string) string {
	if n == "" {
		return sql
	}
	key := statement{n, sql}
	if done, ok := rendered.Load(key); ok {
		return done.(string)
	}
	done := n.Render(sql)
	rendered.Store(key, done)
	return done
}

// Render renders a text.
func (n Name) Render(text string) string {
	if n == "" {
		return text
	}
	class, worker := n.Locks()
	return shared.ReplaceAllStringFunc(text, func(found string) string {
		switch found {
		case "schema outbox":
			return "schema " + n.quoted()
		case "'outbox'::regnamespace":
			return "'" + n.quoted() + "'::regnamespace"
		case channel:
			return n.Channel()
		case setting:
			return setting + "_" + string(n)
		case LockClass:
			return class
		case WorkerLockClass:
			return worker
		case "signalbox_outbox_version":
			return "signalbox_" + n.String() + "_version"
		}
		return n.quoted() + strings.TrimPrefix(found, fallback) // its dot, and the first letter behind it
	})
}

// Original undoes Render for the body of a function.
func (n Name) Original(body string) string {
	if n == "" {
		return body
	}
	class, worker := n.Locks()
	return strings.NewReplacer(n.quoted()+".", fallback+".", n.Channel(), channel, setting+"_"+string(n), setting,
		class, LockClass, worker, WorkerLockClass).Replace(body)
}
