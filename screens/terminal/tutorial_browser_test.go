package terminal

import (
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// browse opens an address, follows a link or presses a button, or waits until a page has a text.
func (r *reader) browse(address, name, text string) {
	r.Helper()
	switch {
	case address != "":
		r.open(http.MethodGet, address, nil)
	case name != "":
		r.clicked++
		r.click(name)
	case r.at == nil:
		r.Fatalf("%q is to be read, and no page is open", text)
	default:
		deadline := time.Now().Add(time.Minute)
		for !strings.Contains(visible(r.page), text) {
			if time.Now().After(deadline) {
				r.Fatalf("%s does not say %q:\n%s", r.at, text, visible(r.page))
			}
			time.Sleep(100 * time.Millisecond)
			r.open(http.MethodGet, r.at.String(), nil) // a page that is watched updates itself
		}
	}
}

var (
	form   = regexp.MustCompile(`(?s)<form method="(\w+)" action="([^"]*)"[^>]*>(.*?)</form>`)
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// click chooses a link or a button by what is written on it.
func (r *reader) click(name string) {
	r.Helper()
	text := `[^>]*>\s*` + regexp.QuoteMeta(name) + `\s*</`
	if link := regexp.MustCompile(`<a [^>]*\bhref="([^"]*)"` + text + `a>`).FindStringSubmatch(r.page); link != nil {
		r.open(http.MethodGet, html.UnescapeString(link[1]), nil)
		return
	}
	button := regexp.MustCompile(`<button\b` + text + `button>`)
	for _, f := range form.FindAllStringSubmatch(r.page, -1) {
		if button.MatchString(f[3]) {
			fields := url.Values{}
			for _, field := range hidden.FindAllStringSubmatch(f[3], -1) {
				fields.Add(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
			}
			r.open(strings.ToUpper(f[1]), html.UnescapeString(f[2]), fields)
			return
		}
	}
	r.Fatalf("%s has neither a link nor a button %q:\n%s", r.at, name, visible(r.page))
}

// open goes to an address, which may be relative to where it is, and to where that leads.
func (r *reader) open(method, address string, fields url.Values) {
	r.Helper()
	if r.at == nil {
		r.at = new(url.URL)
	}
	to, err := r.at.Parse(address)
	if err != nil {
		r.Fatal(err)
	}
	request, err := http.NewRequestWithContext(r.Context(), method, to.String(), strings.NewReader(fields.Encode()))
	if err != nil {
		r.Fatal(err)
	}
	if fields != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		r.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		r.Fatalf("%s answers %s, %v:\n%s", to, response.Status, err, visible(string(body)))
	}
	r.at, r.page = response.Request.URL, string(body)
}

var tag = regexp.MustCompile(`<[^>]*>`)

// visible is what a person reads on a page.
func visible(page string) string {
	_, body, _ := strings.Cut(page, "<body")
	return strings.Join(strings.Fields(html.UnescapeString(tag.ReplaceAllString("<body"+body, " "))), " ")
}
