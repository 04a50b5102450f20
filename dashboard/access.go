package dashboard

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The least that has to be guessed.
const (
	minToken    = 16
	minPassword = 8
)

const (
	cookieName = "signalbox_dashboard"
	cookieLife = 12 * time.Hour
)

// access decides who may come in.
type access struct {
	token          [sha256.Size]byte // hashes: those of equal length compare in constant time
	user, password [sha256.Size]byte
	byToken        bool
	byPassword     bool
	key            []byte // signs cookies
	hosts          []string
}

func newAccess(c Config) access {
	a := access{
		token: sha256.Sum256([]byte(c.Token)), user: sha256.Sum256([]byte(c.User)), password: sha256.Sum256([]byte(c.Password)),
		byToken: c.Token != "", byPassword: c.Password != "",
		hosts: c.Hosts,
	}
	// Derived from the token, so that several processes with the same one understand each other's cookies, and a new
	// token ends them all.
	a.key = sign([]byte(c.Token), "signalbox dashboard cookies")
	return a
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// open is true when everybody may come in.
func (a *access) open() bool { return !a.byToken && !a.byPassword }

// host refuses names that are not the dashboard's.
func (a *access) host(r *http.Request) bool {
	if len(a.hosts) == 0 {
		return true
	}
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	return slices.Contains(a.hosts, strings.Trim(strings.ToLower(name), "[]"))
}

// allows reports whether a request brings what it takes.
func (a *access) allows(r *http.Request, now time.Time) bool {
	if a.open() {
		return true
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && a.knowsToken(token) {
		return true
	}
	if user, password, ok := r.BasicAuth(); ok && a.byPassword {
		// Both are compared, whatever the first says.
		if equal(user, a.user)&equal(password, a.password) == 1 {
			return true
		}
	}
	cookie, err := r.Cookie(cookieName)
	return err == nil && a.byToken && a.validCookie(cookie.Value, now)
}

func (a *access) knowsToken(token string) bool { return a.byToken && equal(token, a.token) == 1 }

func equal(given string, want [sha256.Size]byte) int {
	hash := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(hash[:], want[:])
}

// cookie returns what proves, until it expires, that its owner knew the token. It does not tell the token.
func (a *access) cookie(now time.Time) string {
	until := strconv.FormatInt(now.Add(cookieLife).Unix(), 10)
	return until + "." + hex.EncodeToString(sign(a.key, until))
}

func (a *access) validCookie(value string, now time.Time) bool {
	until, signature, _ := strings.Cut(value, ".")
	got, err := hex.DecodeString(signature)
	if err != nil || !hmac.Equal(got, sign(a.key, until)) {
		return false
	}
	seconds, err := strconv.ParseInt(until, 10, 64)
	return err == nil && now.Before(time.Unix(seconds, 0))
}

// basicUser is who sent a request, by basic authentication.
func basicUser(r *http.Request) string {
	user, _, _ := r.BasicAuth()
	return user
}

// admit lets those in who may.
func (h *Handler) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.access.allows(r, time.Now()) {
			next.ServeHTTP(w, r)
			return
		}
		if r.Header.Get("Authorization") != "" {
			h.config.Logger.Warn("dashboard refuses credentials", "remote", r.RemoteAddr)
		}
		if h.access.byPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="Signalbox", charset="UTF-8"`)
		} else {
			w.Header().Set("WWW-Authenticate", `Bearer realm="Signalbox"`)
			if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
				w.Header().Del("WWW-Authenticate")
				w.Header().Set("Location", link("login", "next", strings.TrimPrefix(r.URL.RequestURI(), "/")))
				w.WriteHeader(http.StatusSeeOther)
				return
			}
		}
		h.fail(w, r, &fault{http.StatusUnauthorized, "Who is there?", "This dashboard is closed. Log in, or send what it was configured with as Authorization header."})
	})
}

type loginForm struct {
	Next  string
	Wrong bool
}

func (h *Handler) loginPage(w http.ResponseWriter, r *http.Request) {
	if !h.access.byToken || h.access.allows(r, time.Now()) {
		w.Header().Set("Location", "./")
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	h.render(w, r, http.StatusOK, &view{Title: "Log in", Template: "login", Data: loginForm{Next: r.FormValue("next")}})
}

func (h *Handler) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	next := ownPath(r.PostFormValue("next"))
	if !h.access.knowsToken(r.PostFormValue("token")) {
		h.config.Logger.Warn("dashboard refuses a token", "remote", r.RemoteAddr)
		h.render(w, r, http.StatusUnauthorized, &view{Title: "Log in", Template: "login", Data: loginForm{Next: next, Wrong: true}})
		return
	}
	http.SetCookie(w, h.newCookie(r, h.access.cookie(time.Now()), cookieLife))
	w.Header().Set("Location", next)
	w.WriteHeader(http.StatusSeeOther)
}

func (h *Handler) logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, h.newCookie(r, "", -time.Second))
	w.Header().Set("Location", "./")
	w.WriteHeader(http.StatusSeeOther)
}

// newCookie has no Path: browsers then send it to where it came from and below, wherever that is mounted.
func (h *Handler) newCookie(r *http.Request, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, MaxAge: int(life.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
	}
}

// ownPath is where to go after the login, if that is a page of the dashboard.
func ownPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || strings.ContainsAny(u.Path, `/\:`) || u.Path == "" {
		return "./"
	}
	return next
}
