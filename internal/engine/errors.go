package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrEvicted says that the worker was taken for dead: its lanes belong to others by now, and nothing it did since
// can be settled. It has to join again, under a new id.
var ErrEvicted = errors.New("worker was evicted")

// ErrOtherServer says that a connection reaches another server than the worker's control connection, or the same one after a restart:
// it may lack what was read before, so nothing of that may be settled there.
var ErrOtherServer = errors.New("connection reaches another server than the worker's others, or that server has restarted")

// ErrBusy says that something could not be done just now, because of a transaction that takes its time. Try again later.
var ErrBusy = errors.New("another transaction is in the way")

// busy turns the error of a lock's timeout into ErrBusy.
func busy(err error) error {
	if lockTimedOut(err) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// lockTimedOut reports whether a statement ended because it waited for a lock for longer than lock_timeout.
func lockTimedOut(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == pgerrcode.LockNotAvailable
}

// ErrStandby is worker.ErrStandby.
var ErrStandby = errors.New("the server is a standby, which takes no writes: connect to the primary, or promote it " +
	"(with several hosts in the URL, target_session_attrs=primary finds the primary)")

// ErrUnknownFeature is admin.ErrUnknownFeature.
var ErrUnknownFeature = errors.New("unknown feature")

// A FeatureError is an admin.FeatureError.
type FeatureError struct {
	Feature string
	Workers []string
}

func (e *FeatureError) Error() string {
	return fmt.Sprintf("the feature %q cannot be used before all workers know it: upgrade or stop %s", e.Feature, strings.Join(e.Workers, ", "))
}
