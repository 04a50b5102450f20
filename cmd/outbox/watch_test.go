package main

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// A line each second, until SIGINT, which is no error.
func TestStatusWatchJSON(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	cmd := command(t, db.URL, "status", "--watch", "--json")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	next := func() (s admin.Status) {
		if !lines.Scan() {
			t.Fatal("it ended")
		}
		if err := decodeOne(lines.Text()+"\n", &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := next(); len(s.Subscriptions) != 0 {
		t.Errorf("%+v", s)
	}
	subscribe(t, db, "mails", ">")
	for seen := false; !seen; {
		seen = len(next().Subscriptions) == 1
	}
	interrupt(t, cmd)
	_, _ = io.Copy(io.Discard, stdout) // what was on the way
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGINT: %v", err)
	}
}

// On a terminal, each look replaces the one before, and lines are cut to its width.
func TestStatusWatchOnTerminal(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	subscribe(t, db, strings.Repeat("long", 30), ">")
	cmd := command(t, db.URL, "status", "--watch")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 10, Cols: 40})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	var screen growing
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		buffer := make([]byte, 4096)
		for {
			n, err := terminal.Read(buffer)
			_, _ = screen.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	eventually(t, "it is drawn twice", func() bool {
		return strings.Count(screen.String(), "\x1b[H") >= 2 && strings.HasSuffix(screen.String(), "\x1b[J")
	})
	if _, err := terminal.WriteString("\x03"); err != nil { // Ctrl-C, as a person would
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	<-drained
	for line := range strings.SplitSeq(screen.String(), "\r\n") {
		text := strings.NewReplacer("\x1b[2J", "", "\x1b[H", "", "\x1b[K", "", "\x1b[J", "", "^C", "").Replace(line)
		if n := len([]rune(text)); n > 40 {
			t.Errorf("a line of %d characters: %q", n, text)
		}
	}
	if !strings.Contains(screen.String(), "longlong") || !strings.Contains(screen.String(), "SUBSCRIPTION") {
		t.Errorf("screen: %q", screen.String())
	}
}
