package producer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

// A refusal is an error whose text is meant for the client.
type refusal struct {
	code int
	err  error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(code int, format string, args ...any) error {
	return &refusal{code, fmt.Errorf(format, args...)}
}

// fail answers a request with the error that ended it. What went wrong on our side is logged here and told to the
// client only in general: statements and addresses are none of its business.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	refused := faultOf(err)
	if refused.code >= 500 && r.Context().Err() == nil { // else the client hung up, and its request went with it
		level, message := slog.LevelError, "request failed: nothing was stored"
		if refused.code == http.StatusServiceUnavailable {
			level, message = slog.LevelWarn, "request failed: its client is told to try again"
		}
		h.config.Logger.LogAttrs(r.Context(), level, message, slog.String("method", r.Method),
			slog.String("path", r.URL.Path), slog.Int("status", refused.code), slog.Any("error", err))
	}
	switch refused.code {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1") // seconds: PostgreSQL restarts in a few
	case http.StatusRequestEntityTooLarge:
		w.Header().Set("Connection", "close") // rather than read on to the next request
	}
	respond(w, refused.code, struct {
		Error string `json:"error"`
	}{refused.Error()})
}

// faultOf says what an error is to the client.
func faultOf(err error) *refusal {
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, ErrOutcomeUnknown):
		return &refusal{http.StatusServiceUnavailable, ErrOutcomeUnknown}
	case readOnly(err):
		return errReadOnly
	case unavailable(err):
		return &refusal{http.StatusServiceUnavailable, errors.New("the database cannot be reached")}
	}
	return &refusal{http.StatusInternalServerError, errors.New("internal error")}
}

// errReadOnly is told while the database is a replica, as the old primary is after a failover.
var errReadOnly = &refusal{http.StatusServiceUnavailable, errors.New("the database takes no writes: it is a standby, or read-only")}

// readOnly reports whether PostgreSQL has refused to write anything at all.
func readOnly(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == pgerrcode.ReadOnlySQLTransaction
}

// unavailable reports whether an error is that of a database that is away, so that the same request may succeed later.
func unavailable(err error) bool {
	var (
		connect *pgconn.ConnectError
		refused *pgconn.PgError
		network net.Error
	)
	switch {
	case errors.As(err, &connect): // for whatever reason: clients can mend none
		return true
	case errors.As(err, &refused):
		switch refused.Code {
		case pgerrcode.AdminShutdown, pgerrcode.CrashShutdown, pgerrcode.CannotConnectNow, pgerrcode.TooManyConnections:
			return true
		}
		return strings.HasPrefix(refused.Code, "08") // connection exceptions, which proxies report
	case errors.As(err, &network): // also a deadline
		return true
	}
	for _, lost := range []error{io.EOF, io.ErrUnexpectedEOF, pgconn.ErrConnClosed, context.DeadlineExceeded} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}
