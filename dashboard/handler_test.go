package dashboard

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/shoptest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// plain does not follow redirects, and keeps no connection that goleak would find.
var plain = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// An answer is what a request got.
type answer struct {
	*http.Response
	body string
}

func send(t *testing.T, r *http.Request) answer {
	t.Helper()
	response, err := plain.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response, string(body)}
}

// get asks for a page, with headers given as names and values.
func (s *site) get(t *testing.T, page string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+page, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return send(t, r)
}

// post sends a form, with fields given as names and values.
func (s *site) post(t *testing.T, page string, fields ...string) answer {
	t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+page, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return send(t, r)
}

// check wants a status, and texts in the answer; those that begin with ! are not to be there.
func (a answer) check(t *testing.T, what string, status int, texts ...string) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s: %s, want %d", what, a.Status, status)
	}
	for _, text := range texts {
		if unwanted, not := strings.CutPrefix(text, "!"); not == strings.Contains(a.body, unwanted) {
			t.Errorf("%s: of %q, %t is wrong:\n%s", what, unwanted, not, a.body)
			return
		}
	}
}

// Empty pages teach.
func TestEmpty(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.get(t, "").check(t, "overview", 200, "Nothing was published yet", "insert into outbox.events", "No subscription yet", "unattended")
	s.get(t, "events").check(t, "events", 200, "The log is empty")
	s.get(t, "deadletters").check(t, "dead letters", 200, "No subscription yet")
	s.get(t, "workers").check(t, "workers", 200, "No worker is there", "worker --subscription log")
	s.Subscribe(t, "mails", "orders.*")
	s.handler.status.forget()
	s.get(t, "").check(t, "overview", 200, "mails", "unserved", "!No subscription yet")
	s.get(t, "deadletters").check(t, "dead letters", 200, "No dead letters", "failed at every attempt")
	for state, text := range map[string]string{"retrying": "Nothing to be retried", "running": "Nothing slow", "skipped": "Nothing was skipped"} {
		s.get(t, "deadletters?state="+state).check(t, state, 200, text)
	}
	s.get(t, "deadletters?topic=a").check(t, "filtered", 200, "Nothing matches")
	s.get(t, "events?topic=a").check(t, "filtered", 200, "No event matches")
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.Subscribe(t, "mails & <more>", "orders.*")
	id := s.Publish(t, "orders.placed", "A-17", `{"text": "<script>alert(1)</script>", "n": -1.5e3, "none": null, "list": [true, "\"x"]}`)
	for n := range 70 {
		s.Publish(t, "stock.counted", "", fmt.Sprint(n))
	}
	s.Bury(t, "mails & <more>", int(id), int(id), "no <such> customer\nstack of it")
	name := url.QueryEscape("mails & <more>")

	s.get(t, "").check(t, "overview", 200, "mails &amp; &lt;more&gt;", "1 dead", `href="deadletters?subscription=mails`, "unserved", "Goes back to", "has yet to settle")
	s.get(t, "subscription?name="+name).check(t, "subscription", 200, "mails &amp; &lt;more&gt;", "orders.*", ">63</i>", "no worker", "Replay", "Pause")
	page := s.get(t, "events")
	page.check(t, "events", 200, "stock.counted", ">71</a>", "!>1</a>", "Older")
	s.get(t, "events?after=22").check(t, "older", 200, ">21</a>", ">1</a>", "orders.placed", "!>22</a>", "!Older", "Newest")
	s.get(t, "events?topic=orders.*").check(t, "by topic", 200, ">1</a>", "!stock.counted")
	s.get(t, "events?key=A-17").check(t, "by key", 200, ">1</a>", "!stock.counted")
	s.get(t, "events?since=1h&until=2099-01-01").check(t, "by time", 200, ">71</a>")
	s.get(t, "events?until=1d").check(t, "before", 200, "No event matches")
	s.get(t, "events?contains="+url.QueryEscape(`{"none": null}`)).check(t, "by payload", 200, ">1</a>", "!stock.counted")
	if to := s.get(t, "events?id=1").Header.Get("Location"); to != "event?id=1" {
		t.Errorf("an id leads to %q", to)
	}
	s.get(t, "event?id=1").check(t, "event", 200, "A-17", "!<script>alert", `<span class="number">-1.5e3</span>`, `<span class="word">null</span>`,
		`<span class="key">&#34;text&#34;</span>`, "Attempt 3 failed", "<summary", "no &lt;such&gt; customer", "stack of it", "Given up", "do=retry")
	s.get(t, "event?id=2").check(t, "another topic", 200, "unmatched")
	var byUID, elsewhere string
	if err := s.Pool.QueryRow(t.Context(), `
		select outbox.uid(e.id, e.published_at)::text, outbox.uid(e.id, e.published_at + interval '1 us')::text from outbox.events e where e.id = 1`).Scan(&byUID, &elsewhere); err != nil {
		t.Fatal(err)
	}
	s.get(t, "event?id="+byUID).check(t, "by UID", 200, "Event 1", "<dt>UID</dt><dd><code>"+byUID+"</code>", "&amp;do=retry")
	s.get(t, "event?id="+elsewhere).check(t, "the UID of another event", 404, "There is no such event")
	raw := s.get(t, "payload?id=1")
	raw.check(t, "payload", 200, `"<script>alert(1)</script>"`)
	if got := raw.Header.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment") || raw.Header.Get("Content-Type") != "application/json" {
		t.Errorf("the payload is %q, %q", got, raw.Header.Get("Content-Type"))
	}
	s.get(t, "deadletters").check(t, "dead letters", 200, "no &lt;such&gt; customer", "!stack of it", "All 1 that match", "By error", `name="id" value="1"`)
	s.get(t, "deadletters?error=such").check(t, "by error", 200, "no &lt;such&gt; customer", "Clear")
	s.get(t, "deadletters?error=other").check(t, "by other error", 200, "Nothing matches")
	for name := range assets {
		s.get(t, name).check(t, name, 200)
	}
}

func TestWrongInput(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.Subscribe(t, "mails", "orders.*")
	s.Publish(t, "orders.placed", "", `1`)
	for page, want := range map[string]struct {
		status int
		text   string
	}{
		"nowhere":                                     {404, "There is no such page"},
		"subscription?name=unknown":                   {404, "There is no such subscription"},
		"deadletters?subscription=unknown":            {404, "There is no such subscription"},
		"event?id=12":                                 {404, "There is no such event"},
		"event?id=twelve":                             {400, "which is a number"},
		"event?id=-1":                                 {400, "which is a number"},
		"payload?id=x":                                {400, "which is a number"},
		"events?after=x":                              {400, "must be the next of a page"},
		"events?topic=a..b":                           {400, "empty token"},
		"events?since=yesterday":                      {400, "how long ago (90s, 1h30m, 7d)"},
		"events?until=-2h":                            {400, "how long ago (90s, 1h30m, 7d)"},
		"events?contains={":                           {400, "such as {&#34;total&#34;: 4200}"},
		"events?key=%00":                              {400, "zero bytes"},
		"deadletters?state=gone":                      {400, "dead, retrying, blocked, running or skipped"},
		"deadletters?topic=a..b":                      {400, "empty token"},
		"confirm?do=explode&subscription=mails":       {400, "no decision"},
		"confirm?do=retry&subscription=mails":         {400, "Nothing is selected"},
		"confirm?do=retry-all":                        {400, "names no subscription"},
		"confirm?do=retry&subscription=mails&id=x":    {400, "which is a number"},
		"confirm?do=retry-all&subscription=mails":     {200, "Nothing matches any more"},
		"replay?name=unknown":                         {404, "There is no such subscription"},
		"replay?name=mails&from=tomorrow":             {400, "how long ago (90s, 1h30m, 7d)"},
		"replay?name=mails&from=0":                    {400, "begin at 1"},
		"replay?name=mails&from=99":                   {400, "beyond the end of the log"},
		"replay?name=mails&topic=a..b":                {400, "empty token"},
		"pause":                                       {404, "There is no such page"}, // it is not for GET
		"deadletters?subscription=mails&error=%00abc": {400, "cannot be asked for"},
	} {
		s.get(t, page).check(t, page, want.status, want.text)
	}
	s.post(t, "pause", "name", "unknown").check(t, "pause", 404, "There is no such subscription")
	s.post(t, "decide", "do", "skip-all", "subscription", "mails").check(t, "skip", 400, "kept with a reason")
	s.post(t, "decide", "do", "retry", "subscription", "mails").check(t, "retry", 400, "Nothing is selected")
	s.post(t, "decide", "do", "retry", "subscription", "mails", "id", "x").check(t, "retry", 400, "which is a number")
	s.post(t, "decide", "do", "retry-all", "subscription", "mails", "error", strings.Repeat("x", maxForm)).check(t, "large", 400, "cannot be read")
	s.post(t, "replay", "name", "unknown").check(t, "replay", 404, "There is no such subscription")
}

// What has been decided is done to those that are meant, and logged.
func TestDecide(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{Actor: func(*http.Request) string { return "ada" }})
	s.Subscribe(t, "mails", "orders.*")
	s.Subscribe(t, "other", "orders.*")
	s.Bury(t, "mails", 1, 60, "connection refused")
	s.Bury(t, "mails", 61, 70, "no such customer")
	s.Bury(t, "other", 1, 5, "connection refused")

	s.get(t, "deadletters?subscription=mails").check(t, "list", 200, "All 70 that match", ">60</td>", ">10</td>", "Next page", ">50</a>", "!>51</a>")
	s.get(t, "deadletters?subscription=mails&after=50").check(t, "second page", 200, ">51</a>", ">70</a>", "!>50</a>", "First page", "!Next page")
	s.get(t, "confirm?do=retry&subscription=mails&id=3&id=4").check(t, "preview", 200, "Retry 2 dead events of mails?", `value="3"`, `value="4"`, `value="retry"`)
	s.get(t, "confirm?do=skip-all&subscription=mails&error=customer&id=3").check(t, "preview of all", 200, "Skip 10 dead events", `value="skip-all"`, "!value=\"3\"", `name="reason"`)
	s.get(t, "confirm?do=discard-all&subscription=mails&since=2h").check(t, "preview of since", 200, "Discard 70 dead events", "!value=\"2h\"")
	if got := s.States(t, "mails")["dead"]; got != 70 {
		t.Fatalf("looking changed something: %d are dead", got)
	}

	done := s.post(t, "decide", "do", "retry", "subscription", "mails", "id", "3", "id", "4")
	done.check(t, "retry", 303)
	to := done.Header.Get("Location")
	if to != "deadletters?state=dead&subscription=mails&done=retry&n=2" {
		t.Errorf("leads to %q", to)
	}
	s.get(t, to).check(t, "notice", 200, "2 events will be tried again now", "All 68 that match")
	s.post(t, "decide", "do", "skip-all", "subscription", "mails", "error", "customer", "reason", "  gone ").check(t, "skip", 303)
	s.post(t, "decide", "do", "discard-all", "subscription", "mails", "key", "A-1").check(t, "discard", 303)
	got, other := s.States(t, "mails"), s.States(t, "other")
	if got["retrying"] != 2 || got["skipped"] != 10 || got["dead"] != 57 || other["dead"] != 5 {
		t.Errorf("mails has %v, other has %v", got, other)
	}
	s.get(t, "event?id=65").check(t, "skipped", 200, "Skipped", "gone", "skipped")
	again := s.post(t, "decide", "do", "discard-all", "subscription", "mails", "key", "A-1").Header.Get("Location")
	s.get(t, again).check(t, "nothing left", 200, "nothing left to decide", "!discarded")
	s.get(t, "deadletters?subscription=mails&state=skipped").check(t, "list of skipped", 200, ">Retry<", ">Discard<", "!>Skip<")

	s.Exec(t, `with w as (insert into outbox.workers (name, direct, lease) values ('w', true, '1 h') returning id) update outbox.deliveries d set state = 'running', owner = w.id from w where d.event_id = 5`)
	s.get(t, "deadletters?subscription=mails&state=running").check(t, "list of running", 200, ">5</a>", "!type=\"checkbox\"", "!>Discard<")
	s.get(t, "confirm?do=discard-all&subscription=mails&state=running").check(t, "running", 400, "cannot be decided about")
	s.post(t, "decide", "do", "discard-all", "subscription", "mails", "state", "running").check(t, "running", 400, "cannot be decided about")
	for _, line := range []string{
		`"action":"retry","who":"ada"`, `"count":2`, `"action":"skip"`, `"reason":"gone","count":10`, `error=customer`, `"action":"discard"`, `"remote":"127.0.0.1:`,
	} {
		if !strings.Contains(s.log.String(), line) {
			t.Errorf("the log lacks %s:\n%s", line, s.log)
		}
	}
	s.get(t, "?done=explode&n=0").check(t, "unknown notice", 200, "!role=\"status\"")
	s.get(t, "?done=retry&n=<b>").check(t, "forged notice", 200, "!tried again")
}

func TestAdminister(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.Subscribe(t, "mails", "orders.*")
	c := s.Hire(t, "mails", "orders.*")
	for range 10 {
		s.Publish(t, "orders.placed", "", `1`)
	}
	shoptest.Eventually(t, "all is handled", func() bool { return c.Handled.Load() == 10 })

	s.post(t, "pause", "name", "mails").check(t, "pause", 303)
	s.get(t, "subscription?name=mails&done=pause").check(t, "paused", 200, "paused", "Paused since", "Resume", "let go of it")
	s.post(t, "resume", "name", "mails").check(t, "resume", 303)
	s.get(t, "subscription?name=mails").check(t, "resumed", 200, "!Paused since")

	shoptest.Eventually(t, "what was handled is recorded", func() bool {
		status, err := admin.GetStatus(t.Context(), s.Pool)
		return err == nil && status.Subscriptions[0].Lag.Events == 0 && status.Subscriptions[0].Lanes[0] == 0
	})
	s.get(t, "replay?name=mails&from=6").check(t, "preview", 200, "Replay 5 events to mails?", "cursors go back")
	s.post(t, "replay", "name", "mails", "from", "6").check(t, "replay", 303)
	shoptest.Eventually(t, "five came again", func() bool { return c.Handled.Load() == 15 })
	shoptest.Eventually(t, "that is recorded", func() bool {
		status, err := admin.GetStatus(t.Context(), s.Pool)
		return err == nil && status.Subscriptions[0].Lag.Events == 0 && status.Subscriptions[0].Lanes[0] == 0
	})
	s.get(t, "replay?name=mails&from=1&until=3&topic=orders.*").check(t, "filtered preview", 200, "Replay 3 events", "become deliveries")
	s.post(t, "replay", "name", "mails", "from", "1", "until", "3", "topic", "orders.*").check(t, "filtered replay", 303)
	shoptest.Eventually(t, "three came again", func() bool { return c.Handled.Load() == 18 })
	s.get(t, "workers").check(t, "workers", 200, "mails-1", "sentinel", "64</b>")
	s.Publish(t, "accounts.closed", "", `1`)
	shoptest.Eventually(t, "it is passed", func() bool {
		n, err := admin.CountBackfill(t.Context(), s.Pool, "mails", []string{"orders.*", "accounts.*"}, outbox.FromBeginning)
		return err == nil && n.Events == 1
	})
	s.get(t, "topics?name=mails&topics=orders.*+accounts.*&from=1").check(t, "preview of topics", 200, "Change the topics of mails?", "Added", "accounts.*", "1 event, from 1", "!Taken away")
	s.get(t, "topics?name=mails&topics=orders.*").check(t, "the same topics", 200, "mails has these topics")
	s.get(t, "topics?name=mails&topics=").check(t, "no topics", 400, "name all topics")
	s.get(t, "topics?name=mails&topics=a..b").check(t, "a bad topic", 400)
	s.post(t, "topics", "name", "mails", "topics", "orders.* accounts.*", "from", "1").check(t, "topics", 303)
	s.get(t, "subscription?name=mails&done=topics").check(t, "topics changed", 200, "accounts.*", "Its topics change")
	for _, action := range []string{"pause", "resume", "replay", "topics"} {
		if !strings.Contains(s.log.String(), `"action":"`+action+`"`) {
			t.Errorf("the log lacks %s:\n%s", action, s.log)
		}
	}
}

// What is replayed in several goes is what there was when it was asked for, and times mean what they meant in the preview.
func TestReplayMuch(t *testing.T) {
	t.Parallel()
	const n = 6000
	s := newSite(t, Config{})
	c := s.Hire(t, "billing", "orders.*")
	shoptest.Eventually(t, "it is there", func() bool {
		list, err := admin.ListSubscriptions(t.Context(), s.Pool)
		return err == nil && len(list) == 1
	})
	s.get(t, "replay?name=billing&from=1h").check(t, "preview of nothing", 200, "Nothing to replay", "!>Replay<")
	s.Exec(t, `insert into outbox.events (topic, key, payload) select 'orders.placed', 'A-' || n % 500, '1' from generate_series(1, $1) n`, n)
	shoptest.Eventually(t, "all is handled", func() bool { return c.Handled.Load() == n })
	shoptest.Eventually(t, "that is recorded", func() bool {
		n, err := admin.CountReplay(t.Context(), s.Pool, "billing", admin.EventFilter{})
		return err == nil && n.Events >= 5000
	})
	var preview answer
	shoptest.Eventually(t, "all of it is settled", func() bool {
		preview = s.get(t, "replay?name=billing&from=1h&topic=orders.placed")
		return strings.Contains(preview.body, "Replay 6,000 events")
	})
	preview.check(t, "preview", 200, "!value=\"1h\"")
	_, from, _ := strings.Cut(preview.body, `name="from" value="`)
	from, _, _ = strings.Cut(from, `"`)
	at, err := admin.ParseTime(html.UnescapeString(from))
	if since := time.Since(at); err != nil || since < time.Hour || since > time.Hour+time.Minute {
		t.Errorf("from 1h on has become %q: %v, %v", from, since, err)
	}
	done := s.post(t, "replay", "name", "billing", "from", html.UnescapeString(from), "topic", "orders.placed")
	done.check(t, "replay", 303)
	s.get(t, done.Header.Get("Location")).check(t, "notice", 200, "6,000 events are replayed")
	shoptest.Eventually(t, "they came again", func() bool { return c.Handled.Load() == 2*n })
	none := s.post(t, "replay", "name", "billing", "key", "unknown").Header.Get("Location")
	s.get(t, none).check(t, "notice of nothing", 200, "Nothing was replayed")
}

// The overview begins with what somebody should look at.
func TestConcerns(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	look := func(what string, texts ...string) {
		t.Helper()
		s.handler.status.forget()
		s.get(t, "").check(t, what, 200, texts...)
	}
	look("nothing at all", "!To look at", "!Nothing needs attention")
	for n := range 9 {
		s.Subscribe(t, fmt.Sprintf("mails-%d", n), "orders.*")
	}
	look("nothing", "Nothing needs attention", "!To look at")
	id := int(s.Publish(t, "orders.placed", "A-1", `1`))
	look("unserved", "Without a worker", ">mails-5</a> 1 waits", "and 3 more", "!Paused", "!Dead letters</dt>")
	s.Exec(t, `update outbox.subscriptions s set paused_at = now() - interval '3 hours'`)
	s.Exec(t, `update outbox.events e set published_at = now() - interval '5 hours'`)
	s.Bury(t, "mails-1", id, id+1, "refused")
	s.Exec(t, `update outbox.deliveries d set stops_key = true, key = 'A', lane = 7`)
	s.Exec(t, `update outbox.deliveries d set state = 'retrying', stops_key = false where d.event_id = $1`, id+1)
	look("all else", "!Without a worker", `subscription=mails-1">mails-1</a> 1<`, "for 3 h", "Behind a failed event", "from 5 h ago on")
}

// What was read and waits for another attempt is no lag, and nothing to be content with either.
func TestReadIsNotHandled(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 1, 3, "refused")
	const waiting = "everything was read, not all of it handled"
	s.get(t, "").check(t, "overview", 200, "every event was handled")
	s.get(t, "subscription?name=mails").check(t, "subscription", 200, "everything was read", "!"+waiting)
	s.Exec(t, `update outbox.deliveries set state = 'retrying'`)
	s.handler.status.forget()
	s.get(t, "").check(t, "overview", 200, "!every event was handled", "yet to succeed", "not part of the lag")
	s.get(t, "subscription?name=mails").check(t, "subscription", 200, waiting)
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{ReadOnly: true})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 1, 3, "refused")
	s.get(t, "deadletters").check(t, "dead letters", 200, "read-only", "refused", "!<button class=\"button small", "!type=\"checkbox\"")
	s.get(t, "subscription?name=mails").check(t, "subscription", 200, "!>Pause<", "!Preview")
	s.get(t, "event?id=1").check(t, "event", 200, "!do=retry")
	s.get(t, "confirm?do=retry-all&subscription=mails").check(t, "confirm", 200, "read-only", "!action=\"decide\"")
	for _, page := range []string{"decide", "pause", "resume", "replay", "topics"} {
		s.post(t, page, "do", "discard-all", "subscription", "mails", "name", "mails").check(t, page, 403, "read-only")
	}
	if got := s.States(t, "mails")["dead"]; got != 3 {
		t.Errorf("%d are dead", got)
	}
}

// A page without a database says so, and is there again with it.
func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	s := serve(t, pgtest.NewEmpty(t), Config{})
	down := s.get(t, "")
	down.check(t, "no schema", 503, "outbox migrate", `http-equiv="refresh"`)
	server := newSite(t, Config{})
	server.get(t, "").check(t, "up", 200)
	server.Exec(t, `alter table outbox.subscriptions rename to hidden`)
	server.handler.status.forget()
	server.get(t, "workers").check(t, "changed", 503, "The schema does not fit")
	server.Exec(t, `alter table outbox.hidden rename to subscriptions`)
	server.get(t, "workers").check(t, "back", 200)
	gone := newSite(t, Config{})
	gone.Pool.Close()
	gone.get(t, "").check(t, "closed", 503, "cannot be reached", "tries again by itself")
}

func TestPrefix(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.Subscribe(t, "mails", "orders.*")
	// No page has a link that knows where it is.
	for _, page := range []string{"", "events", "deadletters", "workers", "subscription?name=mails", "nowhere"} {
		for _, absolute := range []string{`href="/`, `action="/`, `src="/`, "http://", "https://"} {
			s.get(t, page).check(t, page, map[bool]int{true: 404, false: 200}[page == "nowhere"], "!"+absolute)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ops/outbox", nil)
	w := httptest.NewRecorder()
	http.StripPrefix("/ops/outbox", s.handler).ServeHTTP(w, r)
	if got := w.Header().Get("Location"); got != "outbox/" {
		t.Errorf("without its slash, it leads to %q", got)
	}
}

// What the application has called to learn who asks may break: nothing is done then, and the next request is answered as ever.
func TestActorBreaks(t *testing.T) {
	t.Parallel()
	for how, broken := range map[string]func(){"panic": func() { panic("out of order") }, "goexit": runtime.Goexit} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, Config{Actor: func(*http.Request) string { broken(); return "" }})
			s.Subscribe(t, "mails", "orders.*")
			s.post(t, "pause", "name", "mails").check(t, "pause", 500, "It is not known who asks", "Nothing was done")
			s.get(t, "subscription?name=mails").check(t, "subscription", 200, "!Resume")
			var paused bool
			if err := s.Pool.QueryRow(t.Context(), `select paused_at is not null from outbox.subscriptions`).Scan(&paused); err != nil || paused {
				t.Errorf("it was done, or %v", err)
			}
		})
	}
}

// TestRareMatches has one dead letter match behind more than a page looks at: the list says so, and the preview of a decision finds it.
func TestRareMatches(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 1, 20_100, "connection refused")
	s.Bury(t, "mails", 30_001, 30_001, "no such customer")
	s.get(t, "deadletters?subscription=mails&error=customer").check(t, "list", 200, "None of the 20,000 that were looked at match", "Look further", "after=20000")
	s.get(t, "deadletters?subscription=mails&error=customer&after=20000").check(t, "further", 200, ">30001</a>", "First page", "!Look further", "!Next page")
	s.get(t, "confirm?do=skip-all&subscription=mails&error=customer").check(t, "preview", 200, "Skip 1 dead event of mails?", ">30001</a>")
}
