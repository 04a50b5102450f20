package dashboard

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestPictures takes the pictures of the documentation, in docs/images, where SIGNALBOX_PICTURES says so:
//
//	SIGNALBOX_PICTURES=../docs/images go test -run TestPictures ./dashboard
func TestPictures(t *testing.T) {
	folder := os.Getenv("SIGNALBOX_PICTURES")
	if folder == "" {
		return // nothing is tested here: the pages are, elsewhere
	}
	s := newSite(t, Config{})
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
