package webhook

import "net/url"

// placeOf is a URL as people may see it: with many receivers, whoever has the path or the query may send.
func placeOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "webhook"
	}
	place := u.Scheme + "://" + u.Host
	if len(u.Path) > 1 || u.RawQuery != "" {
		place += "/…"
	}
	return place
}
