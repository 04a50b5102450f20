package dashboard

import (
	"fmt"
	"testing"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/shoptest"
)

// TestHeldKeysPage follows held keys from the overview to what can be done about them.
func TestHeldKeysPage(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.Subscribe(t, "mails", "orders.*")
	s.Subscribe(t, "other", "orders.*")
	s.get(t, "keys?name=mails").check(t, "none", 200, "No key is held")
	s.get(t, "keys?name=unknown").check(t, "unknown", 404, "There is no such subscription")
	s.Exec(t, `
		insert into outbox.held_keys (subscription_id, lane, key, from_id, held_at)
		select s.id, 7, case when n < 50 then to_char(n, 'FM00') when n = 50 then '0' else k.key end, 100, now() - interval '1 hour'
		from outbox.subscriptions s, generate_series(1, 54) n
		left join (values (51, '<a>'), (52, 'a'), (53, 'b'), (54, 'c')) as k (n, key) using (n)
		where s.name = 'mails'`)
	s.Exec(t, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, attempt, due_at, stops_key, errors)
		select s.id, d.id, 7, 'orders.placed', d.key, '1', '{}', now(), d.state, d.attempt, now() + d.due, d.state = 'dead', '[{"attempt": 1, "at": "2026-01-01T00:00:00Z", "worker": "w", "error": "no <such> thing"}]'
		from outbox.subscriptions s, (values (10, 'a', 'retrying', 3, interval '1 hour'), (20, 'b', 'dead', 20, '0'), (30, '<a>', 'retrying', 0, '0')) as d (id, key, state, attempt, due)
		where s.name = 'mails'`)
	s.handler.status.forget()
	s.get(t, "").check(t, "overview", 200, `href="keys?name=mails"`, "54 held keys", "Held keys", "54, the first for 60 min")
	s.get(t, "subscription?name=mails").check(t, "subscription", 200, `href="keys?name=mails"`, "54 keys are held")
	s.get(t, "subscription?name=other").check(t, "another", 200, "!held key")
	s.get(t, "keys?name=mails").check(t, "first page", 200, "<code>01</code>", "the next of its events", "nothing: it goes on by itself", "Next page", "!First page", "!&lt;a&gt;", "!<code>a</code>")
	second := s.get(t, "keys?name=mails&after=49")
	second.check(t, "second page", 200, "&lt;a&gt;", "no &lt;such&gt; thing", "an attempt in 60 min", "a decision", "a worker: there is none", "First page", "!Next page",
		"confirm?do=retry&amp;id=10&amp;state=retrying&amp;subscription=mails", "confirm?do=skip&amp;id=20&amp;state=dead&amp;subscription=mails")
	s.get(t, "keys?name=mails&after=zz").check(t, "behind all", 200, "No key is held", "First page")
	s.get(t, "confirm?do=retry&id=10&state=retrying&subscription=mails").check(t, "confirm", 200, "Retry 1 retrying event of mails?")
	serve(t, s.DB, Config{ReadOnly: true}).get(t, "keys?name=mails&after=49").check(t, "read-only", 200, "a decision", "!What can be done", "!confirm?do=")
}

// TestBreakerBadge shows an open breaker and full lanes, and has workers probe.
func TestBreakerBadge(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.Hire(t, "mails", "orders.*")
	owned := func() (n int) {
		if err := s.Pool.QueryRow(t.Context(), `select count(*) from outbox.lanes where owner is not null`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	shoptest.Eventually(t, "it is served", func() bool { return owned() == engine.Lanes })
	s.handler.status.forget()
	s.get(t, "subscription?name=mails").check(t, "closed", 200, "serving", "!breaker", `!id="probe"`)
	s.Exec(t, `update outbox.members set breaker_opened_at = now() - interval '5 hours'`)
	s.handler.status.forget()
	s.get(t, "").check(t, "overview", 200, "Breaker open", "for 5 h", `class="state breaker open"`)
	s.get(t, "subscription?name=mails").check(t, "subscription", 200, "The breaker is open", "5 h ago", `action="probe"`)
	serve(t, s.DB, Config{ReadOnly: true}).get(t, "subscription?name=mails").check(t, "read-only", 200, "The breaker is open", `!action="probe"`)
	s.Exec(t, `update outbox.members set breaker_topics = '{mail.sent}'`)
	s.handler.status.forget()
	s.get(t, "").check(t, "overview", 200, "for 5 h, 1 topic")
	s.get(t, "subscription?name=mails").check(t, "subscription", 200, `The breaker is open for <code class="topic">mail.sent</code>`, "Other topics go on")
	s.Exec(t, `update outbox.members set breaker_opened_at = null, full_lanes = 3`)
	s.handler.status.forget()
	s.get(t, "").check(t, "overview", 200, "Full lanes", "3 of 64")
	s.get(t, "subscription?name=mails").check(t, "full", 200, "3 of 64 lanes are full", `href="deadletters?state=retrying&amp;subscription=mails"`)
	done := s.post(t, "probe", "name", "mails")
	done.check(t, "probe", 303)
	s.get(t, done.Header.Get("Location")).check(t, "after that", 200, "try at once whether attempts succeed again.</p>")
	var asked bool
	if err := s.Pool.QueryRow(t.Context(), `select probe_at is not null from outbox.subscriptions`).Scan(&asked); err != nil || !asked {
		t.Error(fmt.Sprint("it was not asked for: ", err))
	}
	s.post(t, "probe", "name", "unknown").check(t, "unknown", 404, "There is no such subscription")
}
