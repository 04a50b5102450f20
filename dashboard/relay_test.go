package dashboard

import (
	"strings"
	"testing"
)

// TestRelayPage has the page of a relay show where it goes, what is in flight and what failed last; and that of another subscription not.
func TestRelayPage(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.Subscribe(t, "to-nats", "orders.>")
	s.Subscribe(t, "mails", "orders.>")
	s.Exec(t, `
		with w as (insert into outbox.workers (name, direct, lease) values ('relay:1', false, '1 h') returning id)
		insert into outbox.members (worker_id, subscription_id, topics, sends_to, in_flight, last_failure, last_failure_at)
		select w.id, s.id, s.topics, case s.name when 'to-nats' then 'nats://mq.example:4222' end, case s.name when 'to-nats' then 1234 else 0 end,
		       case s.name when 'to-nats' then 'dead letter: <too large>' end, case s.name when 'to-nats' then now() end
		from w, outbox.subscriptions s`)
	page := s.get(t, "subscription?name=to-nats").body
	for _, want := range []string{`id="sends-to">to nats://mq.example:4222<`, `id="in-flight">1,234<`, `dead letter: &lt;too large&gt;`} {
		if !strings.Contains(page, want) {
			t.Errorf("%s is missing:\n%s", want, page)
		}
	}
	other := s.get(t, "subscription?name=mails").body
	for _, none := range []string{"sends-to", "in-flight", "last-failure"} {
		if strings.Contains(other, none) {
			t.Errorf("%s is on the page of one that is no relay:\n%s", none, other)
		}
	}
	if overview := s.get(t, "").body; !strings.Contains(overview, "to nats://mq.example:4222") {
		t.Errorf("the overview does not say where it goes:\n%s", overview)
	}
}
