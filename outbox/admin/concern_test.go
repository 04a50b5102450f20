package admin_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// TestConcerns sees each kind of concern come, and none where events flow.
func TestConcerns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	expect := func(when string, want ...string) {
		t.Helper()
		for read, status := range map[string]func() (*admin.Status, error){
			"GetStatus":     func() (*admin.Status, error) { return admin.GetStatus(ctx, db.Pool) },
			"GetStatusUpTo": func() (*admin.Status, error) { return admin.GetStatusUpTo(ctx, db.Pool, 1000) },
		} {
			s, err := status()
			if err != nil {
				t.Fatal(err)
			}
			got := []string{}
			for _, c := range s.Concerns {
				line := fmt.Sprintf("%s %s %d", c.Subscription, c.Kind, c.Events)
				if c.Since != nil {
					line += " " + s.At.Sub(*c.Since).Round(time.Hour).String()
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
				t.Errorf("%s, by %s: %s", when, read, diff)
			}
		}
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	s := enginetest.Subscribe(t, db, "a.>")
	expect("new")
	exec(`insert into outbox.events (topic, payload, published_at) values ('a.x', '1', now() - interval '59 minutes')`)
	expect("without a worker", s.Name+" unserved 1")
	m, _ := enginetest.Member(t, db, s)
	expect("with one")
	exec(`update outbox.events set published_at = now() - interval '2 hours'`)
	expect("behind", s.Name+" holds 0 2h0m0s")
	enginetest.Settle(t, m, 1)
	expect("settled")
	exec(`select setval('outbox.events_id_seq', 6)`) // deliveries have ids that events have taken
	exec(`
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at)
		select ` + fmt.Sprint(s.ID) + `, i, 7, 'a.x', 'k', '1', '{}', now(), case when i < 3 then 'dead' else 'retrying' end, now()
		from generate_series(1, 6) i`)
	expect("after failures", s.Name+" dead 2", s.Name+" blocked 3")
	exec(`insert into outbox.held_keys (subscription_id, lane, key, from_id, held_at) values (` + fmt.Sprint(s.ID) + `, 7, 'k', 7, now() - interval '14 minutes')`)
	expect("a key is held", s.Name+" dead 2", s.Name+" blocked 3")
	exec(`update outbox.held_keys set held_at = now() - interval '2 hours'`)
	expect("a key is held for long", s.Name+" dead 2", s.Name+" blocked 3", s.Name+" held_keys 1 2h0m0s")
	exec(`delete from outbox.held_keys`)
	exec(`update outbox.members set breaker_opened_at = now() - interval '4 hours'`)
	expect("the breaker is open", s.Name+" breaker 0 4h0m0s", s.Name+" dead 2", s.Name+" blocked 3")
	exec(`update outbox.members set breaker_opened_at = null, full_lanes = 2`)
	expect("lanes are full", s.Name+" full 2", s.Name+" dead 2", s.Name+" blocked 3")
	exec(`update outbox.members set full_lanes = 0`)
	exec(`update outbox.subscriptions set paused_at = now() - interval '3 hours'`)
	expect("paused", s.Name+" paused 0 3h0m0s", s.Name+" dead 2", s.Name+" blocked 3")
	exec(`update outbox.subscriptions set paused_at = null`)
	exec(`select setval('outbox.events_id_seq', 5)`)
	expect("ids went back", " behind 0", s.Name+" dead 2", s.Name+" blocked 3")
	exec(`update outbox.cluster set system_identifier = 1`)
	expect("restored elsewhere", " foreign 0", s.Name+" dead 2", s.Name+" blocked 3")
}
