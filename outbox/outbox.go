package outbox

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
)

// An Outbox is one of the outboxes of a database. Each has its own schema, log, subscriptions and workers, and shares nothing with the
// others. The zero value is the default outbox, whose schema is "outbox"; the functions of this package use it. Safe for concurrent use.
type Outbox struct{ name naming.Name }

// ErrInvalidOutbox is wrapped by errors about a name that an outbox cannot have.
var ErrInvalidOutbox = naming.ErrInvalid

// In returns the outbox with the given name, which is also the name of its schema. A name is a lower-case letter and up to 39 more of a
// to z, 0 to 9 and _. It must not begin with pg_, nor be "signals" or "new_signals". In returns an error wrapping ErrInvalidOutbox for
// other names. "outbox" is the default outbox. In does not check whether the schema exists.
func In(name string) (Outbox, error) {
	n, err := naming.Parse(name)
	return Outbox{n}, err
}

// String returns the name of the outbox.
func (o Outbox) String() string { return o.name.String() }

// Channel returns the channel of PostgreSQL on which workers of the outbox listen: "new_signals" for the default outbox, and
// "new_signals_" with its name for others. A notification only wakes workers, and says which lanes may have new events.
func (o Outbox) Channel() string { return o.name.Channel() }

// A Database is a connection or a pool of pgx, with which the functions of package admin read and administer. [Outbox.DB] makes one of a
// transaction, too.
type Database interface {
	DB
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// DB returns a Database with which the functions of package admin use this outbox. db is a pool, a connection or a transaction of pgx. Do
// not use the result for statements of the application. For the default outbox, it is db itself if db is a Database.
func (o Outbox) DB(db DB) Database { return o.name.Database(db) }
