package main

import (
	"bufio"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// elsewhere is a time zone in which a time that is taken for a local one is hours off.
const elsewhere = "TZ=Asia/Tokyo"

// A twin is an outbox with its dashboard and the commands, all as they are in another time zone.
type twin struct {
	*pgtest.DB
	dashboard string
}

// newTwin has a subscription with a dead letter of each of twelve events, which it has all settled: eight of 2024-01-31 from 09:00 on,
// two an hour, and four of the last hours.
func newTwin(t *testing.T) *twin {
	t.Helper()
	s := &twin{DB: pgtest.New(t)}
	subscribe(t, s.DB, "mails", ">")
	s.exec(t, `
		insert into outbox.events (topic, key, payload, published_at)
		select case n % 2 when 0 then 'orders.even' else 'orders.odd' end, 'k' || n % 3, to_jsonb(n),
		       case when n <= 8 then timestamptz '2024-01-31 09:00Z' + (n - 1) * interval '30 minutes' else now() - (13 - n) * interval '1 hour' end
		from generate_series(1, 12) n`)
	s.exec(t, `update outbox.lanes set after_id = (select max(e.id) from outbox.events e)`)
	s.bury(t)
	cmd := s.command(t, "ui", "--listen", "127.0.0.1:0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		interrupt(t, cmd)
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s.dashboard = strings.TrimSpace(strings.TrimPrefix(line, "The dashboard is at "))
	return s
}

func (s *twin) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := s.Pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// bury makes all events dead letters again.
func (s *twin) bury(t *testing.T) {
	t.Helper()
	s.exec(t, `delete from outbox.deliveries`)
	s.exec(t, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, created_at, state, attempt, due_at, errors)
		select s.id, e.id, e.lane, e.topic, e.key, e.payload, e.headers, e.published_at, e.published_at, 'dead', 1, now(),
		       jsonb_build_array(jsonb_build_object('attempt', 1, 'at', now(), 'worker', 'w', 'error', 'error of ' || e.topic))
		from outbox.events e, outbox.subscriptions s`)
}

// hit returns the events whose delivery is in a state.
func (s *twin) hit(t *testing.T, state string) (ids []int64) {
	t.Helper()
	if err := s.Pool.QueryRow(t.Context(), `
		select array(select d.event_id from outbox.deliveries d where d.state = $1 order by d.event_id)`, state).Scan(&ids); err != nil {
		t.Fatal(err)
	}
	return ids
}

func (s *twin) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := command(t, s.URL, args...)
	cmd.Env = append(cmd.Env, elsewhere)
	return cmd
}

// run runs a command with flags of a filter.
func (s *twin) run(t *testing.T, filter url.Values, args ...string) {
	t.Helper()
	for name, values := range filter {
		for _, value := range values {
			args = append(args, "--"+name, value)
		}
	}
	if out, err := s.command(t, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// list returns the events that a command prints.
func (s *twin) list(t *testing.T, filter url.Values, args ...string) []int64 {
	t.Helper()
	for name, values := range filter {
		for _, value := range values {
			args = append(args, "--"+name, value)
		}
	}
	out, err := s.command(t, append(args, "--json")...).Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return found(t, `"id":(\d+)`, string(out))
}

// page returns the events that a page of the dashboard lists.
func (s *twin) page(t *testing.T, page string, filter url.Values) []int64 {
	t.Helper()
	status, body := ask(t, s.dashboard+page+"?"+filter.Encode())
	if status != http.StatusOK {
		t.Fatalf("%s with %v: status %d: %s", page, filter, status, body)
	}
	return found(t, `class="id" href="event\?id=(\d+)"`, body)
}

// post sends a form of the dashboard.
func (s *twin) post(t *testing.T, page string, form url.Values) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.dashboard+page, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusSeeOther {
		t.Fatalf("%s with %v: status %d", page, form, response.StatusCode)
	}
}

// found returns the ids in a text, sorted.
func found(t *testing.T, pattern, text string) (ids []int64) {
	t.Helper()
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		id, err := strconv.ParseInt(match[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// merged is a form with more fields.
func merged(form url.Values, more ...string) url.Values {
	all := url.Values{}
	for name, values := range form {
		all[name] = values
	}
	for i := 0; i < len(more); i += 2 {
		all.Set(more[i], more[i+1])
	}
	return all
}

// Commands and dashboard take the same typed filter for the same events and deliveries: those that they list, and those that they act on.
func TestCommandsAndDashboardAgree(t *testing.T) {
	t.Parallel()
	s := newTwin(t)
	for name, test := range map[string]struct {
		filter url.Values
		want   []int64
	}{
		"time without zone":  {url.Values{"since": {"2024-01-31 11:00"}, "until": {"2024-01-31 12:30"}}, []int64{5, 6, 7}},
		"ISO without zone":   {url.Values{"since": {"2024-01-31T11:00:00"}, "until": {"1d"}}, []int64{5, 6, 7, 8}},
		"zone":               {url.Values{"since": {"2024-01-31T11:00:00+01:00"}, "until": {"2024-01-31 12:00Z"}}, []int64{3, 4, 5, 6}},
		"days":               {url.Values{"since": {"2024-01-31"}, "until": {"2024-02-01"}}, []int64{1, 2, 3, 4, 5, 6, 7, 8}},
		"ago":                {url.Values{"since": {"3h30m ago"}}, []int64{10, 11, 12}},
		"between ago":        {url.Values{"since": {"0.5d"}, "until": {"2h30m"}}, []int64{9, 10}},
		"until now":          {url.Values{"until": {"now"}, "topic": {"orders.odd"}}, []int64{1, 3, 5, 7, 9, 11}},
		"pattern, key, time": {url.Values{"topic": {"orders.*"}, "key": {"k1"}, "since": {"2024-01-31 10:30"}}, []int64{4, 7, 10}},
		"nothing":            {url.Values{"since": {"2024-01-31 13:00"}, "until": {"2024-01-31 13:00"}}, nil},
	} {
		check := func(who string, got []int64) {
			t.Helper()
			if !slices.Equal(got, test.want) {
				t.Errorf("%s: %s: %v, want %v", name, who, got, test.want)
			}
		}
		check("events list", s.list(t, test.filter, "events", "list"))
		check("events page", s.page(t, "events", test.filter))
		check("deliveries list", s.list(t, test.filter, "deliveries", "list", "-s", "mails"))
		check("dead letters page", s.page(t, "deadletters", merged(test.filter, "subscription", "mails")))

		s.run(t, test.filter, "deliveries", "skip", "-s", "mails", "--reason", "test", "--yes")
		check("deliveries skip", s.hit(t, "skipped"))
		s.bury(t)
		s.post(t, "decide", merged(test.filter, "subscription", "mails", "do", "skip-all", "reason", "test"))
		check("skip all that match", s.hit(t, "skipped"))
		s.bury(t)

		s.run(t, test.filter, "replay", "mails", "--yes")
		check("replay", s.hit(t, "retrying"))
		s.bury(t)
		from := merged(test.filter, "name", "mails", "from", test.filter.Get("since"), "topic", test.filter.Get("topic"))
		from.Del("since")
		if !from.Has("until") {
			from.Set("until", "now")
		}
		s.post(t, "replay", from)
		check("replay page", s.hit(t, "retrying"))
		s.bury(t)
	}
	// What one refuses, the other refuses, with the same words.
	for _, text := range []string{"yesterday", "-1h", "12:00", "31.01.2024"} {
		got := execute(t, s.URL, "events", "list", "--since="+text)
		status, body := ask(t, s.dashboard+"events?"+url.Values{"since": {text}}.Encode())
		if want := "is not a time: write how long ago"; got.code != 2 || !strings.Contains(got.stderr, want) || status != http.StatusBadRequest || !strings.Contains(body, want) {
			t.Errorf("%q: the command ends with %+v, the page with status %d: %s", text, got, status, body)
		}
	}
}
