package terminal

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/needs"
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
	needs.Program(t, "apt-get install bash, or brew install bash", "bash")
	needs.Program(t, "apt-get install curl, or brew install curl", "curl")
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
	cmd := exec.Command("bash", "-c", r.export+"\n"+commands)
	cmd.Dir, cmd.Env = "../..", r.env
	r.here.start(r.T, cmd, 24, 200)
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
	for deadline := time.Now().Add(time.Minute); ; {
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
