package main

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/plain"
)

// A screen is a terminal on which each text replaces the one before.
type screen struct{ terminal *os.File }

// newScreen returns a console that redraws on a terminal, and appends elsewhere.
func newScreen(c *console) *console {
	terminal, ok := c.out.(*os.File)
	if !ok || !cli.IsTerminal(terminal) {
		return c
	}
	_, _ = terminal.WriteString("\x1b[2J") // what was there before would show through
	redrawn := *c
	redrawn.out = screen{terminal}
	return &redrawn
}

// Write draws a whole text, cut to what fits: a line that wraps or scrolls would leave others behind.
func (s screen) Write(text []byte) (int, error) {
	width, height, err := term.GetSize(int(s.terminal.Fd()))
	if err != nil {
		return 0, err
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) > height-1 {
		lines = lines[:max(0, height-1)]
	}
	var b strings.Builder
	b.WriteString("\x1b[H") // home
	for _, line := range lines {
		b.WriteString(plain.Clip(line, width))
		b.WriteString("\x1b[K\n") // clear the rest of the line
	}
	b.WriteString("\x1b[J") // and what is below
	if _, err := io.WriteString(s.terminal, b.String()); err != nil {
		return 0, err
	}
	return len(text), nil
}
