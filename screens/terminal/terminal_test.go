package terminal

import (
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/signalbox-go/signalbox/internal/shoptest"
)

// A terminal is one in which a person types.
type terminal struct {
	cmd    *exec.Cmd
	tty    *os.File
	screen shoptest.Journal
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

// start runs a command in the terminal.
func (w *terminal) start(t *testing.T, cmd *exec.Cmd, rows, columns uint16) {
	t.Helper()
	*w = terminal{cmd: cmd, done: make(chan struct{})}
	var err error
	if w.tty, err = pty.StartWithSize(w.cmd, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
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
		t.Fatalf("%q does not end:\n%s", w.cmd.Args, w.text())
	}
}

// types has a person type something.
func (w *terminal) types(t *testing.T, text string) {
	t.Helper()
	if _, err := w.tty.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// interrupt presses Ctrl-C where something runs. What go run returns then says nothing of the program.
func (w *terminal) interrupt(t *testing.T) {
	t.Helper()
	if !w.busy() {
		return
	}
	w.types(t, "\x03")
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
