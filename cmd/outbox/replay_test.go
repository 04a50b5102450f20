package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// handled counts how often each event was.
type handled struct {
	mu    sync.Mutex
	times map[int64]int
	total int
}

func (h *handled) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// work serves subscriptions in this process, and counts what each handles.
func work(t *testing.T, db *pgtest.DB, names ...string) map[string]*handled {
	t.Helper()
	w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler), Retention: worker.Unlimited, PollInterval: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*handled{}
	for _, name := range names {
		h := &handled{times: map[int64]int{}}
		all[name] = h
		if err := worker.HandleBatch(w, worker.Subscription{Name: name, Topics: []string{">"}}, func(_ context.Context, events []*worker.Event[json.RawMessage]) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, e := range events {
				h.times[e.ID]++
				h.total++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
	return all
}

// Interrupted and resumed by the command that it printed, a replay hands each event to its subscription once more, and to
// no other.
func TestReplayIsResumed(t *testing.T) {
	t.Parallel()
	const n = 12_000
	db := pgtest.New(t)
	if _, err := db.Pool.Exec(t.Context(), `
		insert into outbox.events (topic, key, payload) select 'it''s.' || n % 2, 'k' || n % 500, to_jsonb(n) from generate_series(1, $1) n`, n); err != nil {
		t.Fatal(err)
	}
	seen := work(t, db, "mails", "audit")
	eventually(t, "all events are handled", func() bool { return seen["mails"].count() >= n && seen["audit"].count() >= n })

	cmd := command(t, db.URL, "replay", "mails", "--topic", "it's.1", "--since", "1h", "--rate", "1000", "--yes")
	var complaints growing
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "some are handled again", func() bool { return seen["mails"].count() > n+500 })
	interrupt(t, cmd)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Fatalf("after SIGINT: exit code %d: %s", code, &complaints)
	}
	// What is published now is not part of it.
	if _, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "it's.1", Payload: json.RawMessage("0")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is handled", func() bool { return seen["audit"].count() >= n+1 })

	var resume string
	for line := range strings.Lines(complaints.String()) {
		if strings.HasPrefix(line, "\toutbox replay") {
			resume = strings.TrimSpace(line)
		}
	}
	for _, part := range []string{`--topic 'it'\''s.1'`, "--after", "--max-id", "--rate 1000"} {
		if !strings.Contains(resume, part) {
			t.Fatalf("%q is not in the command that goes on:\n%s", part, &complaints)
		}
	}
	resume = strings.Replace(resume, "--rate 1000", "--rate 100000", 1)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	shell := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(resume, "outbox", "exec "+path, 1))
	shell.Env = append(shell.Environ(), "DATABASE_URL="+db.URL)
	if out, err := shell.CombinedOutput(); err != nil || !strings.Contains(string(out), "will be handled again by mails") {
		t.Fatalf("%s: %v: %s", resume, err, out)
	}
	eventually(t, "half of the events are handled again", func() bool { return seen["mails"].count() >= n+1+n/2 })
	mails := seen["mails"]
	mails.mu.Lock()
	defer mails.mu.Unlock()
	wrong := 0
	for id, times := range mails.times {
		if want := 1 + int(id%2); times != want && id <= n || times != 1 && id > n {
			wrong++
		}
	}
	if wrong > 0 || len(mails.times) != n+1 {
		t.Errorf("%d of %d events were not handled as often as they should", wrong, len(mails.times))
	}
	if got := seen["audit"].count(); got != n+1 {
		t.Errorf("the other subscription handled %d events, want %d", got, n+1)
	}
}

// Dry unless told otherwise, and in both forms.
func TestReplay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ids := publishOrders(t, db, 20)
	seen := work(t, db, "mails", "audit")
	eventually(t, "all events are handled", func() bool {
		var row admin.EventDetails
		decode(t, db, &row, "events", "show", strconv.FormatInt(ids[19], 10))
		return seen["mails"].count() == 20 && seen["audit"].count() == 20 && row.Fates[1].Fate == admin.FateDelivered
	})
	from := strconv.FormatInt(ids[15], 10)
	var done replayed
	for _, args := range [][]string{{"--from", from}, {"--min-id", from}, {"--since", "5h30m"}} {
		eventually(t, "it is settled", func() bool {
			decode(t, db, &done, append([]string{"replay", "mails"}, args...)...)
			return done.Events == 5
		})
		if !done.DryRun || done.Done {
			t.Errorf("%v: %+v", args, done)
		}
	}
	if got := succeed(t, db, "replay", "mails", "--from", from); got != "5 events would be replayed to mails. Nothing was changed: add --yes to do it.\n" {
		t.Errorf("dry: %q", got)
	}
	if got := seen["mails"].count(); got != 20 {
		t.Fatalf("a dry run had %d events handled", got-20)
	}
	done = replayed{}
	decode(t, db, &done, "replay", "mails", "--from", from, "--yes")
	if done.Events != 5 || done.DryRun || !done.Done {
		t.Errorf("%+v", done)
	}
	eventually(t, "they are handled again", func() bool { return seen["mails"].count() == 25 })
	eventually(t, "the filtered ones are settled", func() bool {
		decode(t, db, &done, "replay", "mails", "--key", "k3")
		return done.Events == 2
	})
	if got := succeed(t, db, "replay", "mails", "--key", "k3", "--yes"); got != "2 events will be handled again by mails.\n" {
		t.Errorf("by key: %q", got)
	}
	eventually(t, "they are handled again", func() bool { return seen["mails"].count() == 27 })
	if got := seen["audit"].count(); got != 20 {
		t.Errorf("the other subscription handled %d events", got)
	}

	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"nobody", "--from", "1"}, 3, "unknown subscription"},
		{[]string{"nobody", "--key", "k"}, 3, "unknown subscription"},
		{[]string{"nobody", "--key", "k", "--yes"}, 3, "unknown subscription"},
		{[]string{"mails"}, 2, "say from where with --from"},
		{[]string{"mails", "--from", "1", "--key", "k"}, 2, "with a filter, say --since or --min-id"},
		{[]string{"mails", "--from", "now", "--yes"}, 2, "only goes back"},
		{[]string{"mails", "--from", "999", "--yes"}, 2, "beyond the end of the log"},
		{[]string{"mails", "--payload", "{", "--yes"}, 2, "payload is not JSON"},
		{[]string{"mails", "--key", "k", "--rate=-1"}, 2, "--rate is -1"},
	} {
		refuse(t, db.URL, test.code, test.want, append([]string{"replay"}, test.args...)...)
	}
}

// One that cannot begin has nothing to go on from: it says only why.
func TestReplayWithoutPrivileges(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishOrders(t, db, 1)
	subscribe(t, db, "mails", ">")
	if _, err := db.Pool.Exec(t.Context(), `
		create function outbox.forbid() returns trigger language plpgsql as $$ begin raise insufficient_privilege using message = 'permission denied'; end $$;
		create trigger forbid before insert on outbox.deliveries for each statement execute function outbox.forbid()`); err != nil {
		t.Fatal(err)
	}
	refuse(t, db.URL, 1, "grant that to the role in DATABASE_URL", "replay", "mails", "--min-id", "1", "--yes")
}

// A request to go back waits for workers that do not let go. Interrupted, it says that nothing is lost.
func TestReplayFromIsInterrupted(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishOrders(t, db, 1)
	subscribe(t, db, "mails", ">")
	serve(t, db, "mails")
	if _, err := db.Pool.Exec(t.Context(), `update outbox.lanes set owner = (select w.id from outbox.workers w) where lane = 0`); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, db.URL, "replay", "mails", "--from", "1", "--yes")
	var complaints growing
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it asks", func() bool {
		row, err := admin.GetSubscription(t.Context(), db.Pool, "mails")
		return err == nil && row.RewindTo != nil
	})
	interrupt(t, cmd)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(complaints.String(), "as soon as its workers release its lanes") ||
		!strings.Contains(complaints.String(), "\toutbox replay mails --from 1 --yes\n") {
		t.Errorf("exit code %d: %s", code, &complaints)
	}
}
