package query_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/relay/internal/query"
)

func read(t *testing.T, raw string, env map[string]string) *query.Reader {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return query.Read(u, func(name string) string { return env[name] })
}

func TestValues(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := read(t, "x://h/?a=1&n=7&d=3s&f="+file, map[string]string{"A": "from A", "B": "from B", "P": "from P", "F": "from F"})
	if got := r.String("a", "A"); got != "1" {
		t.Errorf("a = %q", got)
	}
	if got := r.String("b", "B"); got != "from B" {
		t.Errorf("b = %q", got)
	}
	if got := r.Count("n"); got != 7 {
		t.Errorf("n = %d", got)
	}
	if got := r.Duration("d"); got != 3*time.Second {
		t.Errorf("d = %v", got)
	}
	if got := r.Secret("f", "F"); got != "secret " {
		t.Errorf("f = %q", got)
	}
	if got := r.Secret("p", "P"); got != "from P" {
		t.Errorf("p = %q", got)
	}
	if got := r.Count("m"); got != 0 {
		t.Errorf("m = %d", got)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"x://h/?n=0":            `n is "0", must be a number from 1`,
		"x://h/?n=x":            `n is "x", must be a number from 1`,
		"x://h/?b=maybe":        `b is "maybe", must be true or false`,
		"x://h/?d=5":            `d is "5", must be a duration such as 10s or 2m`,
		"x://h/?a=1&a=2":        "a is given 2 times, give it once",
		"x://h/?a=":             "a is empty, give it a value or leave it out",
		"x://h/?f=/no/such":     "f: open /no/such: no such file or directory",
		"x://h/?passwort=hush":  `there is no parameter "passwort", use a, n, b, d, f`,
		"x://h/?a=1;passwort=x": "the part after ? is not NAME=VALUE&NAME=VALUE, with % and ; written as %25 and %3B",
	} {
		r := read(t, raw, nil)
		r.String("a", "")
		r.Count("n")
		r.Bool("b")
		r.Duration("d")
		r.Secret("f", "F")
		if err := r.Err(); err == nil || err.Error() != want || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
}
