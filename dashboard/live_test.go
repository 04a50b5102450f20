package dashboard

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/outbox/admin"
)

// watch opens a page as a stream. next returns its next message, and "" at its end.
func (s *site) watch(t *testing.T, page string) (next func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+page, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	response, err := plain.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("%s: %q", response.Status, got)
	}
	lines := bufio.NewReader(response.Body)
	return func() string {
		var message strings.Builder
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				if err != io.EOF && t.Context().Err() == nil {
					t.Logf("the stream ends with %v", err)
				}
				return ""
			}
			if line == "\n" {
				return message.String()
			}
			message.WriteString(line)
		}
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	s.Subscribe(t, "mails", "orders.*")
	next := s.watch(t, "deadletters?subscription=mails")
	if first := next(); !strings.HasPrefix(first, "event: page\ndata: ") || !strings.Contains(first, "No dead letters") || strings.Contains(first, "<form method=\"get\" action=\"deadletters\"") {
		t.Errorf("first comes\n%s", first)
	}
	s.Bury(t, "mails", 1, 1, "refused\nfor a reason")
	if second := next(); !strings.Contains(second, "refused") || strings.Contains(second, "No dead letters") {
		t.Errorf("then comes\n%s", second)
	}
	s.Exec(t, `alter table outbox.deliveries rename to hidden`)
	for down := ""; !strings.HasPrefix(down, "event: down\ndata: The schema does not fit."); down = next() {
		if !strings.HasPrefix(down, "event: page") && down != "" {
			t.Fatalf("without a table comes\n%s", down)
		}
	}
	s.Exec(t, `alter table outbox.hidden rename to deliveries`)
	if back := next(); !strings.HasPrefix(back, "event: page\n") || !strings.Contains(back, "refused") {
		t.Errorf("with it again comes\n%s", back)
	}
	s.handler.Close()
	for last := next(); last != ""; last = next() {
		if !strings.HasPrefix(last, "event: page") {
			t.Errorf("after the end comes\n%s", last)
		}
	}
}

func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{})
	for range mostStreams {
		s.handler.streams <- struct{}{}
	}
	s.get(t, "", "Accept", "text/event-stream").check(t, "one more", 503)
	<-s.handler.streams
	if first := s.watch(t, "")(); !strings.HasPrefix(first, "event: page") {
		t.Errorf("there is room, and it gets %q", first)
	}
}

// Rates are those between marks, whatever happens to subscriptions in between.
func TestSparks(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(second int, last int64, settled map[string]int64) admin.Mark {
		return admin.Mark{At: start.Add(time.Duration(second) * time.Second), Last: last, Handled: settled}
	}
	marks := []admin.Mark{
		at(0, 100, map[string]int64{"a": 100}), at(2, 120, map[string]int64{"a": 110, "new": 5000}), at(4, 160, map[string]int64{"a": 50, "new": 5100}),
	}
	if in := draw(marks, published); in.Now != 15 || in.Most != 20 || strings.Count(in.Line, ",") != 2 {
		t.Errorf("published: %+v", in)
	}
	if a := draw(marks, handledBy("a")); a.Most != 5 || a.Now != 0 {
		t.Errorf("of one that went back: %+v", a)
	}
	if all := draw(marks, handled); all.Most != 50 {
		t.Errorf("of all, one of which is new: %+v", all)
	}
	if none := draw(marks[:1], published); none.Line != "" || none.Now != 0 {
		t.Errorf("of one mark: %+v", none)
	}
}

// TestMessage reads back, as a browser does, what is sent about text with every end of a line: it is one message, with its own event, and
// no text begins a line.
func TestMessage(t *testing.T) {
	t.Parallel()
	ends := strings.NewReplacer("\r\n", "\n", "\r", "\n")
	for _, data := range []string{"", "a", "a\nb", "a\r\nb", "a\rb", "a\r\r\n\nb", "x\rdata: forged\r\revent: down\rdata: gone\r\r", "\n", "\r"} {
		sent := ends.Replace(message("page", data))
		lines := strings.Split(strings.TrimSuffix(sent, "\n\n"), "\n")
		if !strings.HasSuffix(sent, "\n\n") || lines[0] != "event: page" {
			t.Fatalf("%q is sent as %q", data, sent)
		}
		var got []string
		for _, line := range lines[1:] {
			text, ok := strings.CutPrefix(line, "data: ")
			if !ok {
				t.Errorf("%q: a line is %q", data, line)
			}
			got = append(got, text)
		}
		if want := ends.Replace(data); strings.Join(got, "\n") != want {
			t.Errorf("%q arrives as %q", data, got)
		}
	}
}
