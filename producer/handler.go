package producer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
)

// DB is what a Handler needs of pgx: a pool.
type DB interface {
	Beginner
	outbox.DB
}

// Config holds the options of a Handler. Its zero value works.
type Config struct {
	// Outbox is the one that gets the events. Defaults to the default outbox.
	Outbox outbox.Outbox
	// Logger gets a line for each signal stored, at level debug, and for each request that failed on our side.
	// Defaults to slog.Default().
	Logger *slog.Logger
	// Timeout is how long a request may wait for the database before it is answered with 503.
	// Defaults to 10 seconds.
	Timeout time.Duration
	// Stored is called with the signals of each request that were stored, after their commit, for metrics and the like. It
	// holds up the answer, and must be safe for concurrent use. If it panics, that is logged, and the answer is the same. Where the outcome of a commit is unknown, it is not called.
	// Defaults to nothing.
	Stored func([]Stored)
}

// A Handler is the HTTP side of the producer; the package's documentation lists what it answers. It is safe for
// concurrent use. Mount it at the root, or behind http.StripPrefix.
type Handler struct {
	db     DB
	config Config
	routes map[string]route
}

// A route is what a path takes: one method, and how it is answered.
type route struct {
	method string
	answer func(*http.Request) (any, error)
}

// NewHandler returns a Handler that stores signals in db, usually a *pgxpool.Pool. It does not touch db before the first
// request, and outlives its restarts.
func NewHandler(db DB, config Config) *Handler {
	config.Logger = guard.Logger(cmp.Or(config.Logger, slog.Default()))
	config.Timeout = cmp.Or(config.Timeout, 10*time.Second)
	h := &Handler{db: db, config: config}
	h.routes = map[string]route{
		"/ingest":       {http.MethodPost, h.ingest},
		"/ingest/batch": {http.MethodPost, h.ingestBatch},
		"/healthz":      {http.MethodGet, h.healthz},
		"/readyz":       {http.MethodGet, h.readyz},
	}
	return h
}

// ServeHTTP answers every request with JSON. That is why it does its own routing: http.ServeMux answers in plain text
// what it does not know.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	route, ok := h.routes[r.URL.Path]
	switch {
	case !ok:
		h.fail(w, r, refuse(http.StatusNotFound, "there is nothing at this path: try POST /ingest"))
		return
	case route.method == http.MethodGet && r.Method == http.MethodHead: // net/http drops the body
	case route.method != r.Method:
		allow := route.method
		if allow == http.MethodGet {
			allow = "GET, HEAD"
		}
		w.Header().Set("Allow", allow)
		h.fail(w, r, refuse(http.StatusMethodNotAllowed, "%s takes %s", r.URL.Path, route.method))
		return
	}
	answer, err := route.answer(r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	respond(w, http.StatusOK, answer)
}

// ingest stores one signal.
func (h *Handler) ingest(r *http.Request) (any, error) {
	body, err := readBody(r, MaxBody)
	if err != nil {
		return nil, err
	}
	signal := Random()
	if len(body) > 0 {
		if _, err := contentType(r, typeJSON); err != nil {
			return nil, err
		}
		if signal, err = parseOne(body); err != nil {
			return nil, refuse(http.StatusBadRequest, "%w", err)
		}
	}
	stored, err := h.store(r.Context(), signal)
	if err != nil {
		return nil, err
	}
	return stored[0], nil
}

// batchStored is the answer to a batch: counts and ids, because all of it would be twice the request.
type batchStored struct {
	Count     int      `json:"count"`
	SignalIDs []int64  `json:"signal_ids"` // in the order of the request
	EventIDs  []int64  `json:"event_ids"`
	EventUIDs []string `json:"event_uids"`
}

// ingestBatch stores all of the body's signals or none.
func (h *Handler) ingestBatch(r *http.Request) (any, error) {
	body, err := readBody(r, MaxBatchBody)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, refuse(http.StatusBadRequest, "the batch is empty")
	}
	kind, err := contentType(r, typeJSON, typeNDJSON)
	if err != nil {
		return nil, err
	}
	parse := parseArray
	if kind == typeNDJSON {
		parse = parseLines
	}
	signals, err := parse(body)
	switch {
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "%w", err)
	case len(signals) == 0:
		return nil, refuse(http.StatusBadRequest, "the batch is empty")
	}
	stored, err := h.store(r.Context(), signals...)
	if err != nil {
		return nil, err
	}
	answer := batchStored{Count: len(stored)}
	for _, s := range stored {
		answer.SignalIDs = append(answer.SignalIDs, s.Signal.ID)
		answer.EventIDs = append(answer.EventIDs, s.Event.ID)
		answer.EventUIDs = append(answer.EventUIDs, s.Event.UID)
	}
	return answer, nil
}

func (h *Handler) store(ctx context.Context, signals ...Signal) ([]Stored, error) {
	within, cancel := context.WithTimeout(ctx, h.config.Timeout)
	defer cancel()
	stored, err := store(within, h.config.Outbox, h.db, signals)
	if err != nil {
		return nil, err
	}
	if h.config.Stored != nil {
		guard.CallHook(h.config.Logger, "Stored", func() { h.config.Stored(stored) })
	}
	for _, s := range stored {
		h.config.Logger.LogAttrs(ctx, slog.LevelDebug, "signal stored",
			slog.Int64("signal_id", s.Signal.ID), slog.String("name", s.Signal.Name), slog.Float64("value", s.Signal.Value),
			slog.Time("timestamp", s.Signal.Timestamp), slog.Int64("event_id", s.Event.ID), slog.String("event_uid", s.Event.UID))
	}
	return stored, nil
}

type status struct {
	Status string `json:"status"`
}

// healthz looks at nothing but the process: a restart does not heal a database.
func (h *Handler) healthz(*http.Request) (any, error) { return status{"ok"}, nil }

// readyz looks at what a signal needs to be stored.
func (h *Handler) readyz(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), h.config.Timeout)
	defer cancel()
	for _, set := range []migrations.Set{migrations.For(h.config.Outbox), migrations.Signals} {
		err := set.Check(ctx, h.db)
		var version *migrations.VersionError
		switch {
		case errors.As(err, &version):
			return nil, refuse(http.StatusServiceUnavailable, "%w", err)
		case err != nil:
			return nil, err
		}
	}
	var readOnly bool
	if err := h.db.QueryRow(ctx, `select current_setting('transaction_read_only')::boolean`).Scan(&readOnly); err != nil {
		return nil, fmt.Errorf("look whether the database takes writes: %w", err)
	}
	if readOnly {
		return nil, errReadOnly
	}
	err := engine.CheckLog(ctx, h.config.Outbox.DB(h.db))
	if errors.Is(err, outbox.ErrForeignCluster) || errors.Is(err, outbox.ErrLogBehind) || errors.Is(err, outbox.ErrRowSecurity) {
		return nil, refuse(http.StatusServiceUnavailable, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	return status{"ready"}, nil
}

// respond writes the answer, or what is left of it if the client hung up: no one is left to tell.
func respond(w http.ResponseWriter, code int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(answer)
}
