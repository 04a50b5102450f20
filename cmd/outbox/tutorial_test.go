package main

import (
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestTutorial does what docs/tutorial.md says, as a person would, and wants to see what that promises. In it,
//
//   - **Terminal 1** says where the next block belongs;
//   - blocks in sh are typed there, behind Ctrl-C if something runs there and the text says so;
//   - blocks in text are what that terminal shows next, line by line, with … for anything;
//   - a numbered line is done in the browser: <…> is opened, **…** is clicked, and "…" is read.
//
// The one thing that is not done is to clone the repository, which is here; and ports are replaced by free ones.
func TestTutorial(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	producer, dashboard := freePort(t), freePort(t)
	r := &reader{T: t, env: append(without(os.Environ(), "DATABASE_URL=", "SIGNALBOX_LISTEN=", "SIGNALBOX_UI_"),
		"SIGNALBOX_LISTEN=127.0.0.1:"+producer, "SIGNALBOX_UI_LISTEN=127.0.0.1:"+dashboard, "TERM=xterm")}
	defer r.leave()
	r.follow(strings.NewReplacer(":8080", ":"+producer, ":8090", ":"+dashboard).Replace(string(raw)))

	// "Press Ctrl-C in each terminal, in the first one last."
	for _, terminal := range slices.Backward(r.terminals) {
		terminal.interrupt(t)
	}
	if r.typed < 10 || r.shown < 10 || r.clicked != 6 {
		t.Errorf("%d commands, %d texts and %d clicks: it is not understood any more", r.typed, r.shown, r.clicked)
	}
}

// A reader does what a tutorial says.
type reader struct {
	*testing.T
	env       []string
	export    string      // the line to begin terminals with
	terminals []*terminal // by number
	here      *terminal
	at        *url.URL // in the browser
	page      string

	typed, shown, clicked int
}

var (
	step     = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)\n```$|^\\d+\\. [^\n]*$|\\*\\*Terminal (\\d)\\*\\*|Ctrl-C")
	doing    = regexp.MustCompile(`<(http[^>]+)>|\*\*([^*]+)\*\*|"([^"]+)"`)
	looks    = regexp.MustCompile(`^go run \./cmd/outbox (status|deliveries list)\b`)
	goesOn   = regexp.MustCompile(`(?m)^go run \./cmd/(producer|worker|outbox (db|ui))\b`)
	exported = regexp.MustCompile(`export DATABASE_URL='postgres://\S+'`)
)

// The checkout that the test is in stands for the clone.
const clone = "git clone https://github.com/signalbox-go/signalbox\ncd signalbox\n"

func (r *reader) follow(text string) {
	ctrlC := false
	for _, s := range step.FindAllStringSubmatch(text, -1) {
		switch kind, block, number := s[1], s[2], s[3]; {
		case s[0] == "Ctrl-C":
			ctrlC = true
		case number != "":
			n := int(number[0] - '0')
			for len(r.terminals) < n {
				r.terminals = append(r.terminals, &terminal{})
			}
			r.here = r.terminals[n-1]
		case kind == "sh":
			if ctrlC {
				r.here.interrupt(r.T)
			}
			if r.here.busy() {
				r.Fatalf("who types %q has to be told to press Ctrl-C first", block)
			}
			ctrlC = false
			r.typed += strings.Count(block, "\n") + 1
			r.enter(block)
		case kind == "text":
			r.shown++
			r.read(block)
		case kind != "":
			r.Fatalf("a block is in %s", kind)
		default:
			for _, d := range doing.FindAllStringSubmatch(s[0], -1) {
				r.browse(d[1], d[2], d[3])
			}
		}
	}
}

// enter types commands, and waits for the end of those that come to one.
func (r *reader) enter(commands string) {
	r.Helper()
	if r.here == r.terminals[0] {
		var ok bool
		if commands, ok = strings.CutPrefix(commands, clone); !ok {
			r.Fatalf("the first terminal does not begin with %q", clone)
		}
	} else if r.export == "" {
		if r.export = exported.FindString(r.terminals[0].screen.String()); r.export == "" {
			r.Fatal("the first terminal shows no line to begin others with")
		}
	}
	r.here.start(r.T, r.env, r.export+"\n"+commands)
	if !goesOn.MatchString(commands) {
		r.here.ends(r.T)
		if code := r.here.cmd.ProcessState.ExitCode(); code != 0 {
			r.Fatalf("%q ends with exit code %d:\n%s", commands, code, r.here.text())
		}
	}
}

// read waits until the terminal shows a text. Who looked too early looks again: a worker's log may be ahead of the database.
func (r *reader) read(text string) {
	r.Helper()
	commands := strings.TrimPrefix(r.here.cmd.Args[2], r.export+"\n")
	for deadline := time.Now().Add(30 * time.Second); ; {
		missing := r.here.misses(text)
		if missing == "" {
			return
		}
		if !looks.MatchString(commands) || time.Now().After(deadline) {
			r.Fatalf("it does not show %q next:\n%s", missing, r.here.text())
		}
		r.enter(commands)
	}
}

// leave ends what is left when the test has failed.
func (r *reader) leave() {
	for _, terminal := range slices.Backward(r.terminals) {
		if terminal.busy() {
			_ = syscall.Kill(-terminal.cmd.Process.Pid, syscall.SIGKILL) // outbox db has somebody to clean up after it
			<-terminal.done
		}
	}
}

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
		deadline := time.Now().Add(30 * time.Second)
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

// A terminal is one in which a person types.
type terminal struct {
	cmd    *exec.Cmd
	tty    *os.File
	screen growing
	done   chan struct{} // closed when the command has ended
	seen   int           // up to where the screen was read
}

func (w *terminal) busy() bool {
	if w.cmd == nil {
		return false
	}
	select {
	case <-w.done:
		return false
	default:
		return true
	}
}

func (w *terminal) start(t *testing.T, env []string, commands string) {
	t.Helper()
	*w = terminal{cmd: exec.Command("bash", "-c", commands), done: make(chan struct{})}
	w.cmd.Dir, w.cmd.Env = "../..", env
	var err error
	if w.tty, err = pty.StartWithSize(w.cmd, &pty.Winsize{Rows: 24, Cols: 200}); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(&w.screen, w.tty) // Linux says EIO when the last writer is gone
		_ = w.cmd.Wait()
		_ = w.tty.Close()
		close(w.done)
	}()
}

// Compiling everything for the first time takes its time, on a busy machine too.
const patience = 3 * time.Minute

// ends waits until the commands have ended.
func (w *terminal) ends(t *testing.T) {
	t.Helper()
	select {
	case <-w.done:
	case <-time.After(patience):
		t.Fatalf("%q does not end:\n%s", w.cmd.Args[2], w.text())
	}
}

// interrupt presses Ctrl-C where something runs. What go run returns then says nothing of the program.
func (w *terminal) interrupt(t *testing.T) {
	t.Helper()
	if !w.busy() {
		return
	}
	if _, err := w.tty.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	w.ends(t)
}

var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// text is what is on the screen, in black and white.
func (w *terminal) text() string {
	return strings.ReplaceAll(colour.ReplaceAllString(w.screen.String(), ""), "\r\n", "\n")
}

// misses waits until the lines of a text are below those that were read. It returns the one that does not come, or "".
func (w *terminal) misses(text string) string {
	deadline := time.Now().Add(patience)
	for line := range strings.SplitSeq(text, "\n") {
		want := like(line)
		for {
			ended := !w.busy() // before the look: nothing comes after that
			screen := w.text()
			if found := want.FindStringIndex(screen[w.seen:]); found != nil {
				w.seen += found[1]
				break
			}
			if ended || time.Now().After(deadline) {
				return line
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return ""
}

// like matches lines with the same words. An ellipsis stands for anything.
func like(line string) *regexp.Regexp {
	var parts []string
	for part := range strings.SplitSeq(strings.TrimSpace(line), "…") {
		words := strings.Fields(part)
		for i := range words {
			words[i] = regexp.QuoteMeta(words[i])
		}
		parts = append(parts, strings.Join(words, `[ \t]+`))
	}
	return regexp.MustCompile(`(?m)^[ \t]*` + strings.Join(parts, `.*?`) + `[ \t]*$`)
}

// freePort finds one below those that systems give to outgoing connections: until it is used, nobody gets it by chance.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := fmt.Sprint(15000 + rand.IntN(15000))
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// without returns the variables that begin with none of the prefixes.
func without(variables []string, prefixes ...string) []string {
	return slices.DeleteFunc(variables, func(v string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
}
