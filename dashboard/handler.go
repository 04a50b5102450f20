package dashboard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"sync"
	"time"

	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/outbox"
)

// Config holds the options of a Handler. Its zero value works, and lets everybody in: set a Token, or a User and a Password,
// unless something in front of the Handler checks who they are.
type Config struct {
	// Outbox is the one to show. Defaults to the default outbox.
	Outbox outbox.Outbox

	// Logger gets a line for each action, with who did what to how many, for each refused login and for each page that
	// failed. Defaults to slog.Default().
	Logger *slog.Logger

	// ReadOnly refuses every action. Defaults to false.
	ReadOnly bool

	// Token admits anyone who knows it: typed into a form, which leaves a cookie for 12 hours, or as "Authorization: Bearer
	// …". At least 16 bytes. Defaults to none.
	Token string

	// User and Password are asked for by the browser (basic authentication). The password has at least 8 bytes. Either both
	// or none is set. Defaults to none.
	User, Password string

	// Hosts are the names under which the Handler answers, without ports. One that only listens on a loopback address
	// should have them: else a page from elsewhere can have its own name lead there. Defaults to any.
	Hosts []string

	// Actor says who sent a request, for the log. It is asked before an action: if it panics, nothing is done, and the answer is 500.
	// Defaults to the user of basic authentication, if any.
	Actor func(*http.Request) string
}

// ErrInvalidConfig is wrapped by every error about a Config.
var ErrInvalidConfig = errors.New("invalid configuration")

const (
	refresh       = 2 * time.Second  // how often a page is looked at anew for those who watch it
	pageTimeout   = 10 * time.Second // how long a page may take
	actionTimeout = 2 * time.Minute  // and an action
	mostStreams   = 50               // how many may watch at once
)

// A Handler serves the dashboard. Safe for concurrent use.
type Handler struct {
	db     outbox.Database
	config Config
	access access
	router http.Handler
	rates  rates
	status cached
	every  time.Duration // a page is looked at anew

	closed  chan struct{}
	close   func()
	streams chan struct{} // has one entry for each
}

// NewHandler returns a Handler that shows the outbox in db, usually a *pgxpool.Pool. It does not touch db before the first
// request, and outlives its restarts. It returns ErrInvalidConfig for a config that is not possible.
//
// The streams that keep pages up to date stay open while they are watched: let the server call Close when it shuts
// down, with server.RegisterOnShutdown(h.Close).
func NewHandler(db outbox.Database, config Config) (*Handler, error) {
	switch {
	case config.Token != "" && len(config.Token) < minToken:
		return nil, fmt.Errorf("%w: Token has %d bytes, must have at least %d", ErrInvalidConfig, len(config.Token), minToken)
	case (config.User == "") != (config.Password == ""):
		return nil, fmt.Errorf("%w: User and Password need each other", ErrInvalidConfig)
	case config.Password != "" && len(config.Password) < minPassword:
		return nil, fmt.Errorf("%w: Password has %d bytes, must have at least %d", ErrInvalidConfig, len(config.Password), minPassword)
	}
	config.Logger = guard.Logger(cmp.Or(config.Logger, slog.Default()))
	if config.Actor == nil {
		config.Actor = basicUser
	}
	h := &Handler{db: config.Outbox.DB(db), config: config, every: refresh, closed: make(chan struct{}), streams: make(chan struct{}, mostStreams)}
	h.close = sync.OnceFunc(func() { close(h.closed) })
	h.access = newAccess(config)
	h.router = h.routes()
	return h, nil
}

// Close ends the streams that keep pages up to date. If the server comes back, so do they. Other requests are not affected.
func (h *Handler) Close() { h.close() }

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	switch {
	case !h.access.host(r):
		h.fail(w, r, &fault{
			http.StatusMisdirectedRequest, "This dashboard does not answer under that name",
			"It listens for this machine alone. Open it as http://localhost, with its port; to have it under another name, give it a token.",
		})
	case r.URL.Path == "": // mounted without its slash, where relative links would lead elsewhere
		w.Header().Set("Location", path.Base(r.RequestURI)+"/")
		w.WriteHeader(http.StatusMovedPermanently)
	default:
		h.router.ServeHTTP(w, r)
	}
}

// routes are all at one depth, so that their links to each other are just their names.
func (h *Handler) routes() http.Handler {
	inside := http.NewServeMux()
	inside.Handle("GET /{$}", h.page(h.overview))
	inside.Handle("GET /subscription", h.page(h.subscription))
	inside.Handle("GET /events", h.page(h.events))
	inside.Handle("GET /event", h.page(h.event))
	inside.HandleFunc("GET /payload", h.payload)
	inside.Handle("GET /deadletters", h.page(h.deadLetters))
	inside.Handle("GET /workers", h.page(h.workers))
	inside.Handle("GET /keys", h.page(h.heldKeys))
	inside.Handle("GET /confirm", h.page(h.confirm))
	inside.Handle("GET /replay", h.page(h.confirmReplay))
	inside.Handle("POST /decide", h.action(h.decide))
	inside.Handle("POST /replay", h.action(h.replay))
	inside.Handle("GET /topics", h.page(h.confirmTopics))
	inside.Handle("POST /topics", h.action(h.setTopics))
	inside.Handle("POST /pause", h.action(h.pause))
	inside.Handle("POST /resume", h.action(h.resume))
	inside.Handle("POST /probe", h.action(h.probe))
	inside.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, r, &fault{http.StatusNotFound, "There is no such page", "The links above lead to those that there are."})
	})

	outside := http.NewServeMux()
	for name := range assets {
		outside.HandleFunc("GET /"+name, asset)
	}
	outside.HandleFunc("GET /login", h.loginPage)
	outside.HandleFunc("POST /login", h.login)
	outside.HandleFunc("POST /logout", h.logout)
	outside.Handle("/", h.admit(inside))

	// Refuses what another site has a browser send.
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, r, &fault{http.StatusForbidden, "That came from another site", "Only this dashboard's own pages may ask for actions."})
	}))
	return sameOrigin.Handler(outside)
}

// secure has browsers run nothing but the dashboard's own files, and show it in no other page.
func secure(header http.Header) {
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
}

// action wraps what changes something. It returns where to go next.
func (h *Handler) action(do func(context.Context, *http.Request) (next string, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.config.ReadOnly {
			h.fail(w, r, &fault{http.StatusForbidden, "This dashboard is read-only", "It was started so that it shows everything and changes nothing."})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			h.fail(w, r, badRequest("the form cannot be read: "+err.Error()))
			return
		}
		// A server may give all its answers less time. Not every ResponseWriter can change that.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(actionTimeout + pageTimeout))
		ctx, cancel := context.WithTimeout(r.Context(), actionTimeout)
		defer cancel()
		var who string
		if fault := guard.Call(func() { who = h.config.Actor(r) }); fault != nil {
			guard.Count(guard.Hook)
			h.config.Logger.Error("hook failed", "hook", "Actor", "error", fault)
			h.fail(w, r, errActor)
			return
		}
		next, err := do(ctx, r.WithContext(context.WithValue(r.Context(), actorKey{}, who)))
		h.status.forget()
		if err != nil {
			h.fail(w, r, err)
			return
		}
		w.Header().Set("Location", next) // relative, unlike what http.Redirect would make of it
		w.WriteHeader(http.StatusSeeOther)
	})
}

// maxForm is how large a form may be, in bytes: a page of selected events, or a long filter.
const maxForm = 1 << 20

// errActor is the answer where the application cannot say who asks.
var errActor = &fault{
	http.StatusInternalServerError, "It is not known who asks",
	"Nothing was done. The service that this dashboard is part of failed to say who you are; its log has the reason.",
}

// actorKey is where the context of an action's request has who asked for it.
type actorKey struct{}

// audit logs an action that was done.
func (h *Handler) audit(r *http.Request, action string, attrs ...any) {
	h.config.Logger.Info("dashboard action", append([]any{"action", action, "who", r.Context().Value(actorKey{}), "remote", r.RemoteAddr}, attrs...)...)
}
