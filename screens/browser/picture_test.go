package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/signalbox-go/signalbox/dashboard"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/shoptest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestPictures takes the pictures of the documentation, in docs/images, where SIGNALBOX_PICTURES says so:
//
//	cd screens && SIGNALBOX_PICTURES=../../docs/images go test -count 1 -run TestPictures ./browser
func TestPictures(t *testing.T) {
	folder := os.Getenv("SIGNALBOX_PICTURES")
	if folder == "" {
		return // nothing is tested here: the pages are, elsewhere
	}
	s := newSite(t, dashboard.Config{})
	s.fill(t)
	var dead int64
	if err := s.Pool.QueryRow(t.Context(), `
		select d.event_id from outbox.deliveries d where d.state = 'dead' and d.topic = 'orders.placed' and jsonb_array_length(d.errors) = 3
		order by d.event_id limit 1`).Scan(&dead); err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{
		"overview": "", "deadletters": "deadletters?subscription=mails", "event": fmt.Sprintf("event?id=%d", dead),
	}
	all := os.Getenv("SIGNALBOX_PICTURES_ALL") != ""
	if all {
		for name, page := range map[string]string{
			"subscription": "subscription?name=warehouse", "events": "events?topic=orders.*", "workers": "workers", "none": "deadletters?subscription=billing",
			"confirm": "confirm?subscription=mails&do=skip-all&error=connection", "error": "event?id=99999999",
		} {
			pages[name] = page
		}
	}
	browser := startBrowser(t)
	for _, look := range []string{"light", "dark"} {
		for name, page := range pages {
			b := newWindow(browser, t)
			b.do(name, scheme(look), chromedp.EmulateViewport(1180, 820), chromedp.Navigate(s.url+page), chromedp.Sleep(300*time.Millisecond))
			b.take(filepath.Join(folder, "dashboard-"+name+"-"+look+".png"), chromedp.CaptureScreenshot())
			if all && look == "light" {
				b.do(name, chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile), chromedp.Reload(), chromedp.Sleep(300*time.Millisecond))
				b.take(filepath.Join(folder, "phone-"+name+".png"), chromedp.FullScreenshot(100))
			}
		}
	}
}

// take writes a picture to a file.
func (b window) take(path string, picture chromedp.Action[[]byte]) {
	b.Helper()
	png, err := chromedp.Run(b.ctx, picture)
	if err == nil {
		err = os.WriteFile(path, png, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// fill makes a shop that has been busy for a while, with real workers.
func (s *site) fill(t *testing.T) {
	t.Helper()
	type failing func(e *worker.Event[json.RawMessage]) error
	quiet := slog.New(slog.DiscardHandler)
	hire := func(name string, subs map[string]failing) {
		w, err := worker.New(s.Pool, worker.Config{Name: name, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		for sub, fail := range subs {
			topics := map[string][]string{
				"mails": {"orders.*", "customers.created"}, "billing": {"orders.>"}, "search": {">"}, "warehouse": {"orders.placed", "stock.>"},
			}[sub]
			cfg := worker.Subscription{Name: sub, Topics: topics, BreakerAfter: worker.Unlimited, Retry: worker.Retry{MaxAttempts: 3, InitialInterval: 30 * time.Millisecond}, StopKeyOnDead: sub == "warehouse"}
			if err := worker.Handle(w, cfg, func(_ context.Context, e *worker.Event[json.RawMessage]) error {
				return fail(e)
			}); err != nil {
				t.Fatal(err)
			}
		}
		shoptest.Run(t, w)
	}
	fine := func(*worker.Event[json.RawMessage]) error { return nil }
	mails := func(e *worker.Event[json.RawMessage]) error {
		switch {
		case e.ID%97 == 0:
			return errors.New("smtp mail.example:25: connection refused\ngoroutine 41: mails.send(order)\n\tmails/send.go:88")
		case e.ID%331 == 0:
			return worker.DeadLetter(errors.New("the customer has no address"))
		case e.ID%405 == 0:
			return worker.RetryAfter(7*time.Minute, errors.New("rate limited: 429 Too Many Requests"))
		case e.ID%707 == 0:
			return worker.Skip("samples need no confirmation")
		}
		return nil
	}
	warehouse := func(e *worker.Event[json.RawMessage]) error {
		if e.Key == "A-17" || e.Key == "A-42" {
			return errors.New("shelf 9 is locked")
		}
		return nil
	}
	hire("web-1:4021", map[string]failing{"mails": mails, "billing": fine})
	hire("web-2:4188", map[string]failing{"mails": mails, "billing": fine})
	hire("store-1:977", map[string]failing{"warehouse": warehouse})
	s.Subscribe(t, "search", ">")
	shoptest.Eventually(t, "the workers have the lanes", func() bool {
		list, err := admin.ListSubscriptions(t.Context(), s.Pool)
		return err == nil && len(list) == 4 && list[0].Owned+list[1].Owned+list[3].Owned == 3*engine.Lanes && len(list[1].Workers) == 2
	})
	topics := []string{"orders.placed", "orders.placed", "orders.paid", "orders.shipped", "customers.created", "stock.counted"}
	for range 6 {
		var events []outbox.Event
		for n := range 500 {
			topic := topics[n%len(topics)]
			e, err := outbox.NewEvent(topic, fmt.Sprintf("A-%d", n%200), map[string]any{
				"order": fmt.Sprintf("A-%d", n%200), "total": 1990 + n*7, "currency": "EUR", "paid": n%3 == 0, "voucher": nil,
				"customer": map[string]any{"name": "Zoë Müller", "country": "DE"}, "items": []map[string]any{{"sku": "TEA-100", "count": 2}, {"sku": "MUG-7", "count": 1}},
			})
			if err != nil {
				t.Fatal(err)
			}
			e.Headers = map[string]string{"traceparent": fmt.Sprintf("00-%032x-%016x-01", n+1, n+7), "source": "shop"}
			events = append(events, e)
		}
		if _, err := outbox.Publish(t.Context(), s.Pool, events...); err != nil {
			t.Fatal(err)
		}
	}
	shoptest.Eventually(t, "all is handled", func() bool {
		status, err := admin.GetStatus(t.Context(), s.Pool)
		if err != nil {
			t.Fatal(err)
		}
		lag := int64(0)
		for _, sub := range status.Subscriptions {
			if sub.Name != "search" {
				lag += sub.Lag.Events
			}
		}
		return lag == 0 && s.States(t, "mails")["dead"] > 20 && s.States(t, "warehouse")["dead"] == 2
	})
	if err := admin.Pause(t.Context(), s.Pool, "search"); err != nil {
		t.Fatal(err)
	}
	s.busy(t)
}

// busy has events published for two minutes, which is as far back as rates are shown. They are taken while a page is open.
func (s *site) busy(t *testing.T) {
	t.Helper()
	looks := time.NewTicker(2 * time.Second)
	defer looks.Stop()
	for i := range 60 {
		x := float64(i)
		wave := 22 + 9*math.Sin(x/7) + 5*math.Sin(x/2.3+1) + float64((i*37)%9)
		for n := range 2 * int(wave) {
			s.Publish(t, "orders.paid", fmt.Sprintf("B-%d", n), `{"paid": true}`)
		}
		response, err := http.Get(s.url)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		<-looks.C
	}
}
