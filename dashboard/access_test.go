package dashboard

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

const secret = "correct horse battery staple"

func TestToken(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{Token: secret})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 1, 1, "refused")

	got := s.get(t, "deadletters?error=a+b")
	got.check(t, "stranger", 303, "!mails")
	if to := got.Header.Get("Location"); to != "login?next=deadletters%3Ferror%3Da%2Bb" {
		t.Errorf("leads to %q", to)
	}
	s.get(t, "deadletters", "Accept", "*/*").check(t, "program", 401, "!mails")
	s.get(t, "deadletters", "Accept", "text/event-stream").check(t, "stream", 401, "!mails")
	for _, wrong := range []string{"Bearer wrong", "Bearer ", "bearer " + secret, "Basic Og=="} {
		s.get(t, "deadletters", "Accept", "*/*", "Authorization", wrong).check(t, wrong, 401, "!mails")
	}
	s.get(t, "deadletters", "Authorization", "Bearer "+secret).check(t, "bearer", 200, "mails", "Log out")
	s.post(t, "decide", "do", "discard-all", "subscription", "mails").check(t, "action", 401)
	if s.States(t, "mails")["dead"] != 1 {
		t.Error("a stranger has discarded it")
	}

	s.get(t, "login?next=events").check(t, "form", 200, "Token", `value="events"`)
	s.get(t, "style.css").check(t, "style", 200)
	s.post(t, "login", "token", "wrong", "next", "events").check(t, "wrong token", 401, "That is not the token", `value="events"`)
	in := s.post(t, "login", "token", secret, "next", "events?topic=a")
	in.check(t, "right token", 303)
	if to := in.Header.Get("Location"); to != "events?topic=a" {
		t.Errorf("leads to %q", to)
	}
	cookie := in.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "" || cookie.MaxAge != 12*60*60 || strings.Contains(cookie.Value, secret) {
		t.Errorf("the cookie is %v", cookie)
	}
	s.get(t, "", "Cookie", cookie.Name+"="+cookie.Value).check(t, "with it", 200, "mails")
	for _, forged := range []string{"", "9999999999.", "9999999999.00", "9" + cookie.Value, cookie.Value + "00"} {
		s.get(t, "", "Cookie", cookie.Name+"="+forged).check(t, "forged "+forged, 303, "!mails")
	}
	out := s.post(t, "logout")
	out.check(t, "logout", 303)
	if c := out.Cookies()[0]; c.MaxAge >= 0 {
		t.Errorf("logging out leaves %v", c)
	}
	if log := s.log.String(); strings.Contains(log, secret) || !strings.Contains(log, "refuses a token") {
		t.Errorf("the log is\n%s", log)
	}
}

func TestCookieExpires(t *testing.T) {
	t.Parallel()
	a, now := newAccess(Config{Token: secret}), time.Now()
	cookie := a.cookie(now)
	if !a.validCookie(cookie, now) || !a.validCookie(cookie, now.Add(cookieLife-2*time.Second)) || a.validCookie(cookie, now.Add(cookieLife)) {
		t.Error("it does not last for exactly its life")
	}
	if other := newAccess(Config{Token: secret + "2"}); other.validCookie(cookie, now) {
		t.Error("it is good with another token")
	}
}

// Where to go after the login is never another site.
func TestOwnPath(t *testing.T) {
	t.Parallel()
	for next, want := range map[string]string{
		"events?topic=a&key=b": "events?topic=a&key=b", "event?id=1": "event?id=1",
		"": "./", "https://evil.example/": "./", "//evil.example": "./", "/\\evil.example": "./", `\\evil.example`: "./", "javascript:alert(1)": "./", "../other": "./", "/": "./",
	} {
		if got := ownPath(next); got != want {
			t.Errorf("%q: %q, want %q", next, got, want)
		}
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{User: "ada", Password: secret})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 1, 1, "refused")
	got := s.get(t, "")
	got.check(t, "stranger", 401, "!mails")
	if !strings.HasPrefix(got.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("asks with %q", got.Header.Get("WWW-Authenticate"))
	}
	as := func(user, password string) answer {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"decide", strings.NewReader("do=retry-all&subscription=mails"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(user, password)
		return send(t, r)
	}
	as("ada", "wrong").check(t, "wrong password", 401)
	as("eve", secret).check(t, "wrong user", 401)
	as("ada", secret).check(t, "right", 303)
	if log := s.log.String(); !strings.Contains(log, `"who":"ada"`) || strings.Contains(log, secret) {
		t.Errorf("the log is\n%s", log)
	}
}

func TestInvalidConfig(t *testing.T) {
	t.Parallel()
	for _, config := range []Config{{Token: "short"}, {User: "ada"}, {Password: secret}, {User: "ada", Password: "1234567"}} {
		if _, err := NewHandler(nil, config); !errors.Is(err, ErrInvalidConfig) || strings.Contains(err.Error(), "1234567") {
			t.Errorf("%+v: %v", config, err)
		}
	}
}

// Neither other sites nor other names get anywhere.
func TestOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{Hosts: []string{"127.0.0.1", "localhost", "::1"}})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 1, 1, "refused")
	for origin, header := range map[string]string{"cross-site": "Sec-Fetch-Site", "same-site": "Sec-Fetch-Site", "https://evil.example": "Origin", "null": "Origin"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"decide", strings.NewReader("do=discard-all&subscription=mails"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set(header, origin)
		send(t, r).check(t, origin, 403, "another site")
	}
	if s.States(t, "mails")["dead"] != 1 {
		t.Error("another site has discarded it")
	}
	for host, status := range map[string]int{
		"evil.example": 421, "evil.example:8090": 421, "localhost.evil.example": 421, "": 200, "localhost": 200, "LOCALHOST:1": 200, "[::1]:8090": 200, "[::1]": 200,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			r.Host = host
		}
		send(t, r).check(t, host, status)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	for _, page := range []string{"", "events", "nowhere", "style.css"} {
		header := s.get(t, page).Header
		csp := header.Get("Content-Security-Policy")
		if strings.Contains(csp, "unsafe") || !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "script-src 'self'") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", page, csp)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
			if got := header.Get(name); got != want {
				t.Errorf("%s: %s is %q", page, name, got)
			}
		}
	}
	if got := s.get(t, "events").Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("a page may be cached: %q", got)
	}
}
