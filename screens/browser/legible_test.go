package browser

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/signalbox-go/signalbox/dashboard"
)

// flaws lists what cannot be read on a page, or not be told by a screen reader: text with less contrast than 4.5, what is wider than the
// window, what covers a heading, fields and columns without a name.
const flaws = `(() => {
	const list = []
	if (document.documentElement.scrollWidth > innerWidth) list.push('the page is ' + document.documentElement.scrollWidth + ' wide')
	const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
	const colour = (text) => {
		context.clearRect(0, 0, 1, 1)
		context.fillStyle = text
		context.fillRect(0, 0, 1, 1)
		return [...context.getImageData(0, 0, 1, 1).data]
	}
	const over = ([r, g, b, a], below) => [r, g, b].map((v, i) => v * a / 255 + below[i] * (1 - a / 255))
	const light = (c) => c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0)
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
	while (texts.nextNode()) {
		const e = texts.currentNode.parentElement
		if (!texts.currentNode.data.trim() || !e.checkVisibility() || e.closest(':disabled')) continue
		let below = [255, 255, 255]
		const chain = []
		for (let up = e; up; up = up.parentElement) chain.unshift(up)
		for (const up of chain) below = over(colour(getComputedStyle(up).backgroundColor), below)
		const [a, b] = [over(colour(getComputedStyle(e).color), below), below].map(light)
		const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05)
		if (contrast < 4.5) list.push(texts.currentNode.data.trim().slice(0, 30) + ' (' + e.className + ') has a contrast of ' + contrast.toFixed(2))
	}
	for (const field of document.querySelectorAll('input:not([type=hidden])')) {
		if (!field.labels.length && !field.ariaLabel) list.push('nothing says what ' + field.name + ' is')
	}
	for (const column of document.querySelectorAll('th')) {
		if (!column.textContent.trim() && !column.querySelector('[aria-label]')) list.push('a column of ' + column.parentElement.innerText + ' has no name')
	}
	for (const table of document.querySelectorAll('table:not(:has(th))')) list.push('the columns of ' + table.innerText.slice(0, 30) + ' have no names')
	for (const heading of document.querySelectorAll('.tile h2')) {
		const place = heading.getBoundingClientRect()
		const top = document.elementFromPoint(place.x + 5, place.y + place.height / 2)
		if (top && !heading.contains(top)) list.push(heading.innerText + ' is covered')
	}
	if (document.querySelectorAll('h1').length !== 1) list.push('there is not one heading')
	return list.join('\n')
})()`

// Pages are legible whatever they show, in the light and in the dark, on a desk and on a phone.
func legible(t *testing.T, b window) {
	s := newSite(t, dashboard.Config{})
	long := strings.Repeat("subscription", 15)
	s.Subscribe(t, long, strings.Repeat("topic", 30)+".*", "orders.>", "stock.*")
	for n := range 30 {
		s.Subscribe(t, fmt.Sprintf("mails-%02d", n), "orders.>")
	}
	s.Subscribe(t, "mails-رسائل", "orders.>")
	payload, err := json.Marshal(map[string]any{"text": strings.Repeat("x", 3000), "arabic": "مرحبا \u202e", "none": nil, "n": 1})
	if err != nil {
		t.Fatal(err)
	}
	id := int(s.Publish(t, "orders.placed", strings.Repeat("key", 100), string(payload)))
	s.Publish(t, "orders."+strings.Repeat("topic", 30), "A", strings.Repeat("[", 100)+strings.Repeat("]", 100))
	s.Bury(t, long, id, id, strings.Repeat("error ", 60)+strings.Repeat("E", 300)+"\nand more")
	s.Bury(t, long, 1000, 1020, "refused")
	s.Exec(t, `update outbox.deliveries d set state = 'retrying', topic = repeat('topic', 30), key = repeat('K', 300) where d.event_id > 1010`)
	s.Exec(t, `update outbox.subscriptions s set paused_at = now() where s.name = 'mails-07'`)
	s.Exec(t, `insert into outbox.held_keys (subscription_id, lane, key, from_id, held_at)
		select s.id, d.lane, d.key, 1, now() - interval '1 hour' from outbox.subscriptions s join outbox.deliveries d on d.subscription_id = s.id
		where s.name = $1 and d.state = 'retrying' and d.event_id > 1015`, long)
	pages := []string{
		"keys?name=" + long, "keys?name=mails-01",
		"", "events", "workers", fmt.Sprintf("event?id=%d", id), "event?id=2", "event?id=99", "subscription?name=" + long, "deadletters?subscription=" + long,
		"deadletters?state=retrying&subscription=" + long, "deadletters?subscription=mails-01", "confirm?do=retry-all&subscription=" + long,
		"confirm?do=skip-all&error=E&subscription=" + long, "replay?topic=orders.*&name=" + long,
	}
	for _, look := range []string{"light", "dark"} {
		for _, width := range []int64{1180, 390} {
			view := chromedp.EmulateViewport(width, 800)
			if width < 640 {
				view = chromedp.EmulateViewport(width, 800, chromedp.EmulateMobile)
			}
			b.do("look", scheme(look), view)
			for _, page := range pages {
				b.open(s.url + page)
				b.until("it is there", `document.querySelector('#live')`)
				got, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](flaws))
				if err != nil || got != "" {
					t.Errorf("%s, %d wide, of %q: %v\n%s", look, width, page[:min(len(page), 60)], err, got)
				}
			}
		}
	}
}
