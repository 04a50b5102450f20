package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// What a worker's handler reports of an event.
type what byte

const (
	succeeded what = 'k' // the handler is about to return nil
	failed    what = 'f' // … or an error, or to panic
	called    what = 'c' // a call in a transaction, which may yet be rolled back
	killing   what = 'x' // the process is about to kill itself
)

// A report says that a handler was called.
type report struct {
	began, at    time.Duration // when the call began, and when this was written; see now
	number       int64
	process      int32
	subscription uint8
	what         what
}

// A reporter writes the reports of one process. All processes append to the same file, and each write is one system call, so
// the order in the file is that in which the handlers came to their ends, whatever any clock says. What is written is in
// the kernel's hands: it survives the death of the process and of the database. Safe for concurrent use.
type reporter struct {
	file    *os.File
	process int32
}

func openReporter(path string, process int32) (*reporter, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the reports: %w", err)
	}
	return &reporter{file, process}, nil
}

// write reports events that were handled in one call which began at the given time.
func (r *reporter) write(subscription int, w what, began time.Duration, numbers ...int64) {
	at := now()
	var b []byte
	for _, n := range numbers {
		// The line's beginning is marked, too: what a kill cut off must not take the next process's line with it.
		b = fmt.Appendf(b, "\n%d %d %c %d %d %d.", r.process, subscription, w, n, began, at)
	}
	if _, err := r.file.Write(append(b, '\n')); err != nil {
		panic(fmt.Errorf("report: %w", err)) // an event that is handled and not reported would pass for lost
	}
}

// parseReport reads a line. It reports false for one that was cut off.
func parseReport(line []byte) (r report, ok bool) {
	fields := bytes.Fields(line)
	if len(fields) != 6 || len(fields[2]) != 1 || !bytes.HasSuffix(fields[5], []byte(".")) {
		return r, false
	}
	fields[5] = bytes.TrimSuffix(fields[5], []byte("."))
	var numbers [6]int64
	for i, field := range fields {
		if i == 2 {
			continue
		}
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return r, false
		}
		numbers[i] = n
	}
	if numbers[1] < 0 || numbers[1] >= int64(len(subscriptions)) {
		return r, false
	}
	return report{
		process: int32(numbers[0]), subscription: uint8(numbers[1]), what: what(fields[2][0]), number: numbers[3],
		began: time.Duration(numbers[4]), at: time.Duration(numbers[5]),
	}, true
}

// reports is what the harness has read of the file. Safe for concurrent use.
type reports struct {
	file *os.File

	mu   sync.Mutex
	rest []byte // of the last line, which is not complete
	list []report
	torn int
}

func openReports(path string) (*reports, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the reports: %w", err)
	}
	return &reports{file: file}, nil
}

// read takes in what was written since.
func (r *reports) read() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := bufio.NewReaderSize(r.file, 1<<20)
	for {
		part, err := lines.ReadBytes('\n')
		r.rest = append(r.rest, part...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the reports: %w", err)
		}
		line := bytes.TrimSpace(r.rest)
		if found, ok := parseReport(line); ok {
			r.list = append(r.list, found)
		} else if len(line) > 0 {
			r.torn++
		}
		r.rest = r.rest[:0]
	}
}

// all returns what was read so far.
func (r *reports) all() []report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list
}
