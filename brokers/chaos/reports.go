package main

import (
	"bytes"
	"fmt"
	"os"
)

// What a relay reports of a message.
type what byte

const (
	begun     what = 'b' // it is about to be sent
	succeeded what = 'k' // the sink has answered that it is stored
	failed    what = 'f' // … or that it may not be
)

// A report is a line of the file that all relays append to.
type report struct {
	what    what
	process int
	serial  int64 // of the attempt, in its process
	at      int64 // in ns of Unix time: all processes are on one machine
	id      string
}

// line begins with a new line, too: what a kill cut off must not take the next one with it.
func (r report) line() []byte {
	return fmt.Appendf(nil, "\n%c %d %d %d %s.\n", r.what, r.process, r.serial, r.at, r.id)
}

// readReports reads a file, in the order in which it was written.
func readReports(path string) ([]report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var reports []report
	for line := range bytes.Lines(text) {
		var (
			r report
			w string
		)
		if !bytes.HasSuffix(line, []byte(".\n")) {
			continue // a kill has cut it off, or it is empty
		}
		if _, err := fmt.Sscan(string(bytes.TrimSuffix(line, []byte(".\n"))), &w, &r.process, &r.serial, &r.at, &r.id); err != nil || len(w) != 1 {
			continue // the end of one that was cut off
		}
		r.what = what(w[0])
		reports = append(reports, r)
	}
	return reports, nil
}
