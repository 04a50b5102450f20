package dashboard

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/shoptest"
)

// TestOutagesOnThePage has what the page says of outages.
func TestOutagesOnThePage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		topic  string
		happen func(t *testing.T, s *site, kill func())
		want   []string // in the page, tags taken out
	}{
		"a rare topic behind 200,000 others": {"rare", func(t *testing.T, s *site, kill func()) {
			s.Exec(t, `insert into outbox.events (topic, payload, published_at) select 'other', '1', now() - interval '3 h' from generate_series(1, 200000)`)
			s.Exec(t, `insert into outbox.events (topic, payload, published_at) values ('rare', '1', now() - interval '2 h')`)
			kill()
		}, []string{"Without a worker", `mails \d+ waits?`, `~\d+ 3 ?h`, "unread"}},
		"the last worker is killed": {">", func(t *testing.T, s *site, kill func()) {
			s.Publish(t, "orders.placed", "A", "1")
			kill()
		}, []string{"Without a worker", "mails 1 waits", "unread"}},
		"everything fails, and no attempt counts": {">", func(t *testing.T, s *site, _ func()) {
			s.Exec(t, `
				insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, attempt, due_at, created_at, errors)
				select 1, n, n % 64, 'orders.placed', '1', '{}', now() - interval '3 min', 'retrying', 0, now(), now() - interval '3 min',
				       jsonb_build_array(jsonb_build_object('attempt', 1, 'at', now(), 'worker', 'w', 'error', 'no route to host'))
				from generate_series(1, 20) n`)
		}, []string{"Failing", `mails for 3 ?m`, "20 retrying"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, Config{})
			s.Subscribe(t, "mails", test.topic)
			conn := s.Conn(t)
			if _, err := engine.Join(t.Context(), conn, "last", true, time.Hour, []int32{1}); err != nil {
				t.Fatal(err)
			}
			if text := pageText(s.get(t, "").body); strings.Contains(text, "Without a worker") {
				t.Errorf("while all is well: %s", text)
			}
			test.happen(t, s, func() {
				if err := conn.Close(context.Background()); err != nil {
					t.Fatal(err)
				}
			})
			for _, want := range test.want {
				text := ""
				shoptest.Eventually(t, "the page says "+want, func() bool {
					text = pageText(s.get(t, "").body)
					return regexp.MustCompile(want).MatchString(text)
				})
			}
		})
	}
}

var tags = regexp.MustCompile(`(<[^>]*>|\s)+`)

// pageText is a page without its tags.
func pageText(body string) string { return tags.ReplaceAllString(body, " ") }
