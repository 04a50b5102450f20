package naming

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Name{
		"outbox": "", "billing": "billing", "a": "a", "order": "order", "b2_c": "b2_c", strings.Repeat("x", 40): Name(strings.Repeat("x", 40)),
	} {
		if n, err := Parse(text); err != nil || n != want {
			t.Errorf("%q is %q, %v", text, n, err)
		}
	}
	for _, text := range []string{
		"", "Billing", "1a", "_a", "a-b", "a.b", `a"b`, "a b", "billing\n", "é", "pg_", "pg_catalog", "pg_x", "signals", "new_signals", "signalbox_outbox_version", strings.Repeat("x", 41),
	} {
		if n, err := Parse(text); !errors.Is(err, ErrInvalid) || n != "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is %q, %v; want ErrInvalid in a line", text, n, err)
		}
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	n := Name("order")
	class, worker := n.Locks()
	for sql, want := range map[string]string{
		`select e.id from outbox.events e`:                    `select e.id from "order".events e`,
		`select 'outbox.events'::regclass`:                    `select '"order".events'::regclass`,
		`'outbox'::regnamespace`:                              `'"order"'::regnamespace`,
		"create schema outbox;":                               `create schema "order";`,
		"drop schema outbox cascade;":                         `drop schema "order" cascade;`,
		"listen new_signals":                                  "listen new_signals_order",
		"pg_notify('new_signals', payload)":                   "pg_notify('new_signals_order', payload)",
		"(7446925, 1) or classid = 7446926":                   "(" + class + ", 1) or classid = " + worker,
		"from public.signalbox_outbox_version":                "from public.signalbox_order_version",
		"from outbox.lanes,outbox.members;outbox.notify('')":  `from "order".lanes,"order".members;"order".notify('')`,
		"current_setting('signalbox.last_id')":                "current_setting('signalbox.last_id_order')",
		"my_outbox.events, outboxes.x, outbox_x, 17446925":    "my_outbox.events, outboxes.x, outbox_x, 17446925",
		"new_signals_x, renew_signals, the outbox needs UTF8": "new_signals_x, renew_signals, the outbox needs UTF8",
	} {
		if got := n.Render(sql); got != want {
			t.Errorf("%s\n got %s\nwant %s", sql, got, want)
		}
		if got := n.SQL(sql); got != want {
			t.Errorf("kept: %s\n got %s\nwant %s", sql, got, want)
		}
		if got := n.Original(want); got != sql && strings.HasPrefix(sql, "pg_notify") {
			t.Errorf("undone: %s became %s", want, got)
		}
		if got := Name("").SQL(sql); got != sql {
			t.Errorf("for the default: %s became %s", sql, got)
		}
	}
}

// TestLocks wants pairs of numbers that never overlap without being the same, and that are those of one name only, mostly.
func TestLocks(t *testing.T) {
	t.Parallel()
	owners := map[string]Name{}
	for _, n := range []Name{"", "a", "b", "billing", "shipping", "outbox_", "x1", "x2", "x3"} {
		class, worker := n.Locks()
		for _, number := range []string{class, worker} {
			if owner, taken := owners[number]; taken {
				t.Errorf("%q and %q share %s", owner, n, number)
			}
			owners[number] = n
		}
		if !regexp.MustCompile(`[13579]$`).MatchString(class) {
			t.Errorf("the class of %q is %s: it would overlap with the worker's of others", n, class)
		}
	}
}

// FuzzRender has every text keep what is not the default's, and nothing of what is.
func FuzzRender(f *testing.F) {
	f.Add("select * from outbox.events where 'outbox.x'::regclass", "billing")
	f.Add(`"outbox".events outbox.outbox.x`, "a")
	f.Add("7446925,7446926 new_signals schema outbox 'outbox'::regnamespace", "order")
	f.Fuzz(func(t *testing.T, text, name string) {
		n, err := Parse(name)
		if err != nil {
			t.Skip()
		}
		got := n.Render(text)
		if n == "" {
			if got != text {
				t.Fatalf("%q became %q for the default", text, got)
			}
			return
		}
		class, worker := n.Locks()
		if class != LockClass && worker != WorkerLockClass && class != WorkerLockClass {
			if again := n.Render(got); again != got && !strings.Contains(text, "outbox.outbox.") {
				t.Errorf("%q became %q, and then %q", text, got, again)
			}
		}
		// What is between what belongs to the default stays, byte by byte.
		pieces := shared.Split(text, -1)
		rest := got
		for _, piece := range pieces {
			i := strings.Index(rest, piece)
			if i < 0 {
				t.Fatalf("%q became %q, which lacks %q", text, got, piece)
			}
			rest = rest[i+len(piece):]
		}
	})
}

func TestAdvice(t *testing.T) {
	t.Parallel()
	n := Name("billing")
	for text, want := range map[string]string{
		`stop its producers and run "outbox migrate" to adopt it`:   `stop its producers and run "outbox migrate --outbox billing" to adopt it`,
		"Run: outbox subscriptions resume 'a b'; or delete it":      "Run: outbox subscriptions resume --outbox billing 'a b'; or delete it",
		"replay what counts (outbox replay --help)":                 "replay what counts (outbox replay --outbox billing --help)",
		"Run: alter table outbox.events enable trigger doorbell":    `Run: alter table "billing".events enable trigger doorbell`,
		"The outbox was restored; an outbox migrated is an outbox.": "The outbox was restored; an outbox migrated is an outbox.",
	} {
		if got := n.Advice(text); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if again := n.Advice(want); again != want {
			t.Errorf("twice: %s", again)
		}
		if got := Name("").Advice(text); got != text {
			t.Errorf("for the default: %s became %s", text, got)
		}
	}
	cause := errors.New("run outbox migrate")
	if err := n.Advised(cause); !errors.Is(err, cause) || err.Error() != "run outbox migrate --outbox billing" || n.Advised(nil) != nil {
		t.Errorf("got %v", err)
	}
}
