package dashboard

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

//go:embed templates assets
var files embed.FS

// A view is what a page shows.
type view struct {
	Title    string
	Nav      string // which link of the navigation leads here
	Template string
	Data     any
	Live     bool // its middle is worth watching
	Retry    bool // a browser should come back by itself, also without scripts

	// Of the handler and the request.
	Outbox   string // its name, "" for the default one
	ReadOnly bool
	CanLeave bool // there is a login to leave
	Notice   string
	Style    string // files, with what tells their versions apart
	Script   string
	Icon     string
}

// templates has a set for each page: the layout, with the page's blocks. "tools" stays as it is while the page is watched, "live"
// is sent anew.
var templates = parseTemplates()

func parseTemplates() map[string]*template.Template {
	layout := template.Must(template.New("layout.html").Funcs(functions).ParseFS(files, "templates/layout.html", "templates/parts.html"))
	pages := map[string]*template.Template{}
	for _, name := range []string{
		"overview", "subscription", "events", "event", "deadletters", "workers", "keys", "confirm", "replay", "topics", "login", "error",
	} {
		pages[name] = template.Must(template.Must(layout.Clone()).ParseFS(files, "templates/"+name+".html"))
	}
	return pages
}

// assets are the files that pages load, by name.
var assets = readAssets()

type assetFile struct {
	body, kind, version string
}

func readAssets() map[string]assetFile {
	list := map[string]assetFile{}
	for name, kind := range map[string]string{
		"style.css": "text/css; charset=utf-8", "script.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		body, err := files.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // it is embedded
		}
		hash := fnv.New64a()
		_, _ = hash.Write(body)
		list[name] = assetFile{string(body), kind, strconv.FormatUint(hash.Sum64(), 36)}
	}
	return list
}

func asset(w http.ResponseWriter, r *http.Request) {
	a := assets[strings.TrimPrefix(r.URL.Path, "/")]
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable") // another version has another address
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(a.body))
}

func versioned(name string) string { return name + "?v=" + assets[name].version }

// elsewhere is another page that is meant, instead of an error.
type elsewhere string

func (e elsewhere) Error() string { return "see " + string(e) }

// A pageFunc collects what a page shows.
type pageFunc func(context.Context, *http.Request) (*view, error)

// page answers with a page, or with a stream of what changes of it.
func (h *Handler) page(collect pageFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if r.Header.Get("Accept") == "text/event-stream" {
			h.stream(w, r, collect)
			return
		}
		v, err := h.collect(r, collect)
		if next := elsewhere(""); errors.As(err, &next) {
			w.Header().Set("Location", string(next))
			w.WriteHeader(http.StatusSeeOther)
			return
		}
		if err != nil {
			h.fail(w, r, err)
			return
		}
		h.render(w, r, http.StatusOK, v)
	})
}

func (h *Handler) collect(r *http.Request, collect pageFunc) (*view, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	return collect(ctx, r)
}

func (h *Handler) render(w http.ResponseWriter, r *http.Request, status int, v *view) {
	h.dress(v)
	v.CanLeave = h.access.byToken && v.Template != "login"
	v.Style, v.Script, v.Icon = versioned("style.css"), versioned("script.js"), versioned("icon.svg")
	v.Notice = notice(r.URL.Query())
	var page bytes.Buffer
	if err := templates[v.Template].ExecuteTemplate(&page, "layout.html", v); err != nil {
		h.config.Logger.Error("dashboard page cannot be rendered", "page", v.Template, "error", err)
		http.Error(w, "This page cannot be shown. The log of the dashboard says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // whoever is gone is gone
}

// dress sets what parts of a page depend on, besides their data.
func (h *Handler) dress(v *view) {
	if h.config.Outbox != (outbox.Outbox{}) && v.Template != "login" {
		v.Outbox = h.config.Outbox.String()
	}
	v.ReadOnly = h.config.ReadOnly
}

// A fault is an error that a person is told.
type fault struct {
	Status int
	Title  string
	Hint   string
}

func (f *fault) Error() string { return f.Title }

func badRequest(hint string) *fault {
	return &fault{http.StatusBadRequest, "That cannot be asked for", upperFirst(hint) + "."}
}

// explain turns an error into what a person can do about it.
func explain(o outbox.Outbox, err error) *fault {
	var (
		known   *fault
		refused *pgconn.PgError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, outbox.ErrUnknownSubscription):
		return &fault{http.StatusNotFound, "There is no such subscription", "It may have been deleted. The overview lists those that there are."}
	case errors.Is(err, admin.ErrUnknownEvent):
		return &fault{http.StatusNotFound, "There is no such event", "Its transaction may have rolled back or not have committed yet, or it is older than the log goes back."}
	case errors.Is(err, admin.ErrInvalidFilter), errors.Is(err, outbox.ErrInvalidSubscription), errors.Is(err, outbox.ErrInvalidPosition):
		return badRequest(err.Error())
	case errors.As(err, &refused) && slices.Contains([]string{pgerrcode.InvalidSchemaName, pgerrcode.UndefinedTable, pgerrcode.UndefinedColumn}, refused.Code):
		return &fault{http.StatusServiceUnavailable, "The schema does not fit", naming.Of(o).Advice(`The tables are not as this dashboard knows them: run "outbox migrate".`)}
	case errors.As(err, &refused) && strings.HasPrefix(refused.Code, "22"): // a text with a zero byte, say
		return badRequest(refused.Message)
	case errors.As(err, &refused) && refused.Code == pgerrcode.ReadOnlySQLTransaction:
		return &fault{http.StatusConflict, "The server is a standby, or read-only", "Nothing was changed. Have the dashboard connect to the primary, or promote the standby."}
	case errors.As(err, &refused) && refused.Code == pgerrcode.InsufficientPrivilege:
		return &fault{http.StatusServiceUnavailable, "The dashboard's role may not do that", "PostgreSQL says: " + refused.Message + "."}
	case errors.Is(err, context.DeadlineExceeded):
		return &fault{http.StatusServiceUnavailable, "The database takes too long", "It has not answered in time. This page tries again by itself."}
	}
	return &fault{http.StatusServiceUnavailable, "The database cannot be reached", "Nothing is lost: workers and publishers wait for it, too. This page tries again by itself."}
}

// fail answers with an error.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody is there to be told
	}
	f := explain(h.config.Outbox, err)
	if f.Status == http.StatusServiceUnavailable {
		if known := (*fault)(nil); r.Method != http.MethodGet && !errors.As(err, &known) {
			f = &fault{f.Status, f.Title, "Go back, and look whether it was done before you try again."}
		}
		h.config.Logger.Warn("dashboard page failed", "page", r.URL.Path, "error", err)
	}
	h.render(w, r, f.Status, &view{
		Title: f.Title, Template: "error", Data: f, Retry: f.Status == http.StatusServiceUnavailable && r.Method == http.MethodGet,
	})
}

// link is a page's address with parameters, given as names and values. Empty ones are left out.
func link(page string, params ...any) string {
	q := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		if value := fmt.Sprint(params[i+1]); value != "" && value != "0" {
			q.Add(fmt.Sprint(params[i]), value)
		}
	}
	return withQuery(page, q)
}

func withQuery(page string, q url.Values) string {
	if len(q) == 0 {
		return page
	}
	return page + "?" + q.Encode()
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
