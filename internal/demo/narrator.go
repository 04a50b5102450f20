package demo

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/mattn/go-isatty"
)

// A narrator writes the story, line by line. It writes in a goroutine of its own: a terminal that is paused with Ctrl-S
// must not pause the handlers, which would then be called again.
type narrator struct {
	lines   chan string
	written sync.WaitGroup
	colours bool
}

// backlog is how many lines wait for a slow terminal.
const backlog = 1000

func newNarrator(w io.Writer) *narrator {
	n := &narrator{lines: make(chan string, backlog)}
	if f, ok := w.(*os.File); ok {
		n.colours = os.Getenv("NO_COLOR") == "" && isatty.IsTerminal(f.Fd())
	}
	n.written.Go(func() {
		for line := range n.lines {
			// Nobody to tell if it fails. The verdict is the exit code.
			_, _ = fmt.Fprintln(w, line)
		}
	})
	return n
}

// close waits until everything is written.
func (n *narrator) close() {
	close(n.lines)
	n.written.Wait()
}

// say writes what must not be missed.
func (n *narrator) say(format string, args ...any) { n.lines <- fmt.Sprintf(format, args...) }

// mention writes a line unless too many wait already, and reports whether it did.
func (n *narrator) mention(line string) bool {
	select {
	case n.lines <- line:
		return true
	default:
		return false
	}
}

// The terminal's codes for what the story paints.
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

// paint returns the text in a colour, where there are colours.
func (n *narrator) paint(code, text string) string {
	if !n.colours {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
