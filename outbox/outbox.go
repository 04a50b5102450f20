package outbox

import "github.com/signalbox-go/signalbox/internal/naming"

// An Outbox is one of those that a database may have: each has a schema, a log, subscriptions and workers of its own, and shares nothing
// with the others. Its zero value is the default outbox, whose schema is "outbox", and which the functions of this package are about.
type Outbox struct{ name naming.Name }

// ErrInvalidOutbox says that an outbox cannot have that name.
var ErrInvalidOutbox = naming.ErrInvalid

// In returns the outbox with a name, which is also its schema's: a lower-case letter, then up to 39 of a to z, 0 to 9 and _; not beginning
// with pg_, and not "signals" or "new_signals". It returns ErrInvalidOutbox for any other. "outbox" is the default one.
func In(name string) (Outbox, error) {
	n, err := naming.Parse(name)
	return Outbox{n}, err
}

// String returns the outbox's name.
func (o Outbox) String() string { return o.name.String() }

// Channel is where its workers listen: Channel for the default outbox.
func (o Outbox) Channel() string { return o.name.Channel() }

// MarshalText returns the outbox's name.
func (o Outbox) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText is In, for flags and configurations.
func (o *Outbox) UnmarshalText(name []byte) (err error) {
	*o, err = In(string(name))
	return err
}

// A Database is a DB that begins transactions.
type Database interface {
	DB
	Beginner
}

// DB returns what the functions of package admin take, to have them look at this outbox and administer it: a pool, a connection or a
// transaction of pgx, for which the statements of this project are about this outbox. It is of no use for statements of the
// application's own. Of the default outbox, it is db itself where that begins transactions with options.
func (o Outbox) DB(db DB) Database { return o.name.Database(db) }
