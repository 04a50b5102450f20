package browser

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/signalbox-go/signalbox/internal/needs"
)

// findChromium returns the browser that the tests drive. One that CHROMIUM names has to be there.
func findChromium(t *testing.T) string {
	t.Helper()
	if given := os.Getenv("CHROMIUM"); given != "" {
		return given
	}
	return needs.Program(t, "apt-get install chromium, brew install chromium, or set CHROMIUM to the path of another Chrome",
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
}

// startBrowser starts a headless browser with a profile of its own, until the test ends.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	program := findChromium(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], // a new slice: the array is full
		chromedp.ExecPath(program),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(time.Minute),
	)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	browser, stop := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		if err := chromedp.Cancel(browser); err != nil {
			t.Logf("close the browser: %v", err)
		}
		stop()
		cancel()
	})
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	return browser
}

// A window is one of the browser that shares nothing with others, such as cookies.
type window struct {
	*testing.T
	ctx context.Context // which is what chromedp calls a tab
}

// newWindow opens one. What is done in it ends after five minutes.
func newWindow(browser context.Context, t *testing.T) window {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1180, 900)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	return window{t, ctx}
}

// do does things one after the other.
func (b window) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.Fatalf("%s: %v; the page says:\n%s", what, err, b.text())
	}
}

// text is what a person reads on the page.
func (b window) text() string {
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body.innerText`))
	if err != nil {
		return err.Error()
	}
	return text
}

// until waits until an expression is true, on a page whose scripts have run. Pages may come and go meanwhile.
func (b window) until(what, expression string) {
	b.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		so, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("document.readyState === 'complete' && !!("+expression+")"))
		if err == nil && so {
			return
		}
		if time.Now().After(deadline) || b.ctx.Err() != nil {
			b.Fatalf("it is not so: %s (%v); the page says:\n%s", what, err, b.text())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// says waits until the page has a text.
func (b window) says(text string) {
	b.Helper()
	b.until("the page says "+text, fmt.Sprintf("document.body?.innerText.includes(%q)", text))
}

// click clicks on the first element that matches a CSS selector. An update may replace the element just then: it tries again.
func (b window) click(selector string) {
	b.Helper()
	var err error
	for range 5 {
		if err = chromedp.Do(b.ctx, chromedp.Click(chromedp.CSS(selector))); err == nil {
			return
		}
	}
	b.Fatalf("click %s: %v; the page says:\n%s", selector, err, b.text())
}

// scheme has the system of a tab be light or dark.
func scheme(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return err
	})
}
