package main

import (
	"bufio"
	"io"
	"testing"

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
