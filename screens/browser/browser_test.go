package browser

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/signalbox-go/signalbox/dashboard"
	"github.com/signalbox-go/signalbox/internal/shoptest"
)

// TestBrowser uses the dashboard as a person does, in a real browser.
func TestBrowser(t *testing.T) {
	t.Parallel()
	browser := startBrowser(t)
	for name, test := range map[string]func(*testing.T, window){
		"FilterAndFollow": browseEvents, "RetryOne": retryOne, "RetryMany": retryMany, "Keyboard": useKeyboard,
		"Selection": keepSelection, "Recovers": recoverByItself, "Token": logIn, "ReadOnly": lookOnly, "NoScripts": withoutScripts, "Quiet": runNothingElse,
		"Legible": legible, "Twice": clickTwice, "Restart": outliveRestart, "Proxy": proxyKeepsUpdates, "Hidden": restWhileHidden, "Silence": noticeSilence,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, newWindow(browser, t))
		})
	}
}

// open goes to a page.
func (b window) open(url string) {
	b.Helper()
	b.do("open "+url, chromedp.Navigate(url))
}

// fill types into a field.
func (b window) fill(selector, text string) {
	b.Helper()
	b.do("type into "+selector, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// press presses a key.
func (b window) press(keys string) {
	b.Helper()
	for _, key := range strings.Split(keys, "") {
		b.do("press "+key, chromedp.KeyEvent(key))
	}
}

// Events are filtered by a form that leads to an address, and those that are published meanwhile appear by themselves.
func browseEvents(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	s.Publish(t, "orders.placed", "A-17", `{"total": 4200}`)
	s.Publish(t, "stock.counted", "", `{}`)
	b.open(s.url)
	b.says("No subscription yet")
	b.click(`nav a[href=events]`)
	b.says("stock.counted")
	b.fill(`input[name=topic]`, "orders.*\r")
	b.until("the filter is in the address", `location.search.includes('topic=orders.*') && document.querySelectorAll('[data-row]').length === 1`)
	id := s.Publish(t, "orders.paid", "A-17", `{"total": 1}`)
	s.Publish(t, "stock.counted", "", `{}`)
	b.until("the new one is there, and only that", `document.querySelectorAll('[data-row]').length === 2 && document.body.innerText.includes('orders.paid')`)
	b.click(fmt.Sprintf(`a[href="event?id=%d"]`, id))
	b.says(`"total": 1`)
}

// A dead letter is retried, and its page tells that a worker has delivered it.
func retryOne(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	c := s.Hire(t, "mails", "orders.*")
	c.Away.Store(true)
	id := s.Publish(t, "orders.placed", "A-17", `{"total": 4200}`)
	shoptest.Eventually(t, "it is dead", func() bool { return s.States(t, "mails")["dead"] == 1 })
	b.open(s.url + "deadletters")
	b.says("mail.example: connection refused")
	b.click(fmt.Sprintf(`a[href="event?id=%d"]`, id))
	b.says("Attempt 2 failed")
	c.Away.Store(false)
	b.click(`.fate a.primary`)
	b.says("Retry 1 dead event of mails?")
	b.click(`#confirm`)
	b.says("1 event will be tried again now.")
	shoptest.Eventually(t, "the worker has it", func() bool { return c.Handled.Load() == 1 })
	b.open(fmt.Sprintf("%sevent?id=%d", s.url, id))
	b.until("it is delivered", `document.querySelector('.pill.delivered')`)
}

// All that match are retried after a preview, and the list empties by itself.
func retryMany(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	c := s.Hire(t, "mails", "orders.*")
	c.Away.Store(true)
	for n := range 60 {
		s.Publish(t, "orders.placed", fmt.Sprintf("A-%d", n), `{}`)
	}
	shoptest.Eventually(t, "they are dead", func() bool { return s.States(t, "mails")["dead"] == 60 })
	s.Bury(t, "mails", 1001, 1003, "no such customer")
	b.open(s.url + "deadletters?subscription=mails")
	b.says("63 that match")
	b.until("nothing is selected yet", `document.querySelector('#retry-selected').disabled`)
	b.click(`.groups a`)
	b.says("60 that match")
	c.Away.Store(false)
	b.click(`#retry-all`)
	b.says("Retry 60 dead events of mails?")
	if c.Handled.Load() != 0 {
		t.Error("the preview has retried something")
	}
	b.click(`#confirm`)
	b.says("60 events will be tried again now.")
	b.says("Nothing matches")
	shoptest.Eventually(t, "the worker has them", func() bool { return c.Handled.Load() == 60 })
	b.open(s.url + "deadletters?subscription=mails")
	b.says("3 that match")
}

func useKeyboard(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 1, 5, "refused")
	b.open(s.url)
	b.says("mails")
	b.press("?")
	b.until("the help is open", `document.querySelector('#help').open`)
	b.press("\x1b")
	b.until("it is closed", `!document.querySelector('#help').open`)
	b.press("gd")
	b.says("5 that match")
	b.press("jjx")
	b.until("the second is selected", `document.querySelectorAll('.picks input[name=id]')[1].checked && document.querySelector('#picked').innerText === '1'`)
	b.press("r")
	b.says("Retry 1 dead event of mails?")
	b.until("the button has the focus", `document.activeElement.id === 'confirm'`)
	b.press("\r")
	b.says("1 event will be tried again now.")
	b.press("/")
	b.until("the filter has the focus", `document.activeElement.name === 'topic'`)
	b.press("ge") // is typed
	b.until("it was typed", `document.activeElement.value.endsWith('ge') && location.pathname.endsWith('/deadletters')`)
}

// What is selected is not taken away by what happens meanwhile.
func keepSelection(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 10, 12, "refused")
	b.open(s.url + "deadletters")
	b.says("3 that match")
	b.click(`#pick-11`)
	s.Bury(t, "mails", 1, 1, "another")
	b.until("it waits", `document.querySelector('#live-state').innerText.trim() === 'waits for you'`)
	b.until("nothing has moved", `document.querySelector('#pick-11').checked && !document.querySelector('#pick-1')`)
	b.click(`#pick-11`)
	b.until("then it goes on", `document.querySelector('#pick-1') && document.querySelector('#live-state').innerText.trim() === 'live'`)
}

// A page says that the database is away, and goes on when it is back.
func recoverByItself(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	b.open(s.url)
	b.says("No subscription yet")
	s.Exec(t, `alter table outbox.subscriptions rename to hidden`)
	b.says("The schema does not fit")
	s.Exec(t, `alter table outbox.hidden rename to subscriptions`)
	s.Subscribe(t, "mails", "orders.*")
	b.says("unserved")
	b.until("it does not say so any more", `document.querySelector('#down').hidden`)
}

// A tab that nobody sees costs nothing.
func restWhileHidden(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	b.open(s.url)
	b.says("No subscription yet")
	shoptest.Eventually(t, "it watches", func() bool { return s.watchers.Load() == 1 })
	hide := func(so bool) {
		b.do("hide or show it", chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(() => {
			Object.defineProperty(document, 'hidden', { value: %t, configurable: true })
			document.dispatchEvent(new Event('visibilitychange'))
		})()`, so)))
	}
	hide(true)
	shoptest.Eventually(t, "it does not watch", func() bool { return s.watchers.Load() == 0 })
	s.Subscribe(t, "mails", "orders.*")
	hide(false)
	b.says("unserved")
}

// A page that has heard nothing for 40 seconds is not live, though no error was raised. They are 0.2 s here.
func noticeSilence(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	b.open(s.url)
	b.says("No subscription yet")
	b.until("it is live", `document.querySelector('#live-state').classList.contains('on')`)
	b.do("shorten its patience", chromedp.Evaluate[chromedp.Void](`(() => {
		const later = window.setTimeout
		window.setTimeout = (what, ms, ...rest) => later(what, ms === 40000 ? 200 : ms, ...rest)
	})()`))
	s.Subscribe(t, "mails", "orders.*") // the last news
	b.says("unserved")
	b.says("No updates since")
	b.until("it is not live", `document.querySelector('#live-state').innerText.trim() === 'reconnecting' && !document.querySelector('#live-state').classList.contains('on')`)
}

// Who is impatient does not do it twice.
func clickTwice(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 1, 3, "refused")
	b.open(s.url + "confirm?do=discard-all&subscription=mails")
	b.until("both clicks come before an answer", `(() => {
		const button = document.querySelector('#confirm')
		button.click()
		button.click()
		return document.querySelector('form[data-sent]')
	})()`)
	b.says("3 events were discarded.")
	if n := strings.Count(s.log.String(), `"action":"discard"`); n != 1 {
		t.Errorf("it was asked for %d times:\n%s", n, s.log)
	}
	b.do("go back", chromedp.NavigateBack())
	b.says("Nothing matches any more")
}

// What cannot be kept up to date says so, until the server is back.
func outliveRestart(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	start := func(address string) (*http.Server, string) {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: s.handler, ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
		return server, listener.Addr().String()
	}
	server, address := start("127.0.0.1:0")
	b.open("http://" + address + "/")
	b.says("No subscription yet")
	b.until("it is live", `document.querySelector('#live-state').classList.contains('on')`)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	b.says("No updates since")
	s.Subscribe(t, "mails", "orders.*")
	start(address)
	b.says("unserved")
	b.until("all is well", `document.querySelector('#down').hidden && document.querySelector('#live-state').innerText.trim() === 'live'`)
}

// A proxy that keeps updates to itself raises no error: the page is not called live before one has come.
func proxyKeepsUpdates(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/event-stream" {
			select {
			case <-release:
			case <-t.Context().Done():
				return
			case <-r.Context().Done():
				return
			}
		}
		s.handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(s.handler.Close)
	b.open(server.URL + "/")
	b.says("No subscription yet")
	b.until("it does not claim to be live", `document.querySelector('#live-state').innerText.trim() === 'connecting' && !document.querySelector('#live-state').classList.contains('on')`)
	b.click("#live-state")
	b.until("it is paused", `document.querySelector('#live-state').innerText.trim() === 'paused'`)
	b.click("#live-state")
	b.until("it does not claim to be live when it goes on, either", `document.querySelector('#live-state').innerText.trim() === 'connecting'`)
	close(release)
	b.until("it is live", `document.querySelector('#live-state').innerText.trim() === 'live' && document.querySelector('#live-state').classList.contains('on')`)
}

func logIn(t *testing.T, b window) {
	const secret = "correct horse battery staple"
	s := newSite(t, dashboard.Config{Token: secret})
	s.Subscribe(t, "mails", "orders.*")
	b.open(s.url + "deadletters?state=retrying")
	b.says("This dashboard is closed")
	b.fill(`input[name=token]`, "wrong\r")
	b.says("That is not the token")
	b.fill(`input[name=token]`, secret+"\r")
	b.says("Nothing to be retried")
	b.until("updates come, too", `document.querySelector('#live-state').classList.contains('on')`)
	b.until("scripts do not see the cookie", `document.cookie === ''`)
	b.click(`form[action=logout] button`)
	b.says("This dashboard is closed")
}

func lookOnly(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{ReadOnly: true})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 1, 2, "refused")
	b.open(s.url + "deadletters")
	b.says("refused")
	b.until("there is nothing to decide with", `!document.querySelector('main button:not([hidden]):not(.primary), input[type=checkbox]')`)
	// Whoever makes a form of his own is refused.
	b.do("send a form", chromedp.Evaluate[chromedp.Void](`(() => {
		const form = document.createElement('form')
		form.method = 'post'
		form.action = 'decide?'
		for (const [name, value] of [['do', 'discard-all'], ['subscription', 'mails']]) {
			const field = document.createElement('input')
			field.name = name
			field.value = value
			form.append(field)
		}
		document.body.append(form)
		form.submit()
	})()`))
	b.says("This dashboard is read-only")
	if n := s.States(t, "mails")["dead"]; n != 2 {
		t.Errorf("%d are dead, want 2", n)
	}
}

// Everything works with scripting off, but for the updates.
func withoutScripts(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	s.Subscribe(t, "mails", "orders.*")
	s.Bury(t, "mails", 1, 3, "refused")
	b.do("turn scripts off", func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return chromedp.Void{}, err
	})
	b.open(s.url)
	b.says("mails")
	b.until("what needs scripts is not offered", `document.querySelector('#help-open').hidden && document.querySelector('#live-state').hidden`)
	b.click(`nav a[href=deadletters]`)
	b.says("3 that match")
	b.click(`#pick-2`)
	b.click(`#retry-selected`)
	b.says("Retry 1 dead event of mails?")
	b.click(`#confirm`)
	b.says("1 event will be tried again now.")
	b.says("2 that match")
	b.open(s.url + "subscription?name=mails")
	b.click(`#pause`)
	b.says("Paused since")
	b.click(`#pause`)
	b.until("it is resumed", `!document.body.innerText.includes('Paused since')`)
}

// The policy for content stops nothing that pages do, and nothing comes from elsewhere.
func runNothingElse(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	s.Subscribe(t, "mails", "orders.*")
	id := s.Publish(t, "orders.placed", "A", `{"a": "<img src=x onerror=document.title='bad'>"}`)
	s.Bury(t, "mails", int(id), int(id), "<script>document.title = 'bad'</script>")
	for _, page := range []string{"", "events", "event?id=1", "deadletters", "subscription?name=mails", "workers"} {
		b.open(s.url + page)
		b.until("styles and scripts of "+page+" are there", `getComputedStyle(document.querySelector('.top')).position === 'sticky' && !document.querySelector('#help-open').hidden`)
		b.until("everything comes from here", `performance.getEntriesByType('resource').every(e => e.name.startsWith(location.origin))`)
		b.until("nothing else has run", `!document.title.includes('bad')`)
	}
}
