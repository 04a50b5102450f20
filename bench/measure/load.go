// Package measure has what a benchmark reads its figures from: latencies, the processor's time, and memory.
package measure

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is Linux's unit of processor time in /proc, the same on all its usual machines.
const ticksPerSecond = 100

// Usage is how many of the machine's cores were busy, on average.
type Usage struct {
	Ours  float64 // this process, its children, and theirs: the server is one
	Other float64 // everybody else on the machine: what disturbs a measurement
	Steal float64 // taken by the host
}

// A Load measures usage from Begin to End.
type Load struct {
	at          time.Time
	busy, steal float64
	ours        float64
}

// BeginLoad starts to measure. It returns nil where there is no /proc.
func BeginLoad() *Load {
	busy, steal, err := machineTime()
	if err != nil {
		return nil
	}
	ours, err := TreeTime(os.Getpid())
	if err != nil {
		return nil
	}
	return &Load{time.Now(), busy, steal, ours}
}

// End returns the usage since BeginLoad, and false where it is not known.
func (l *Load) End() (Usage, bool) {
	if l == nil {
		return Usage{}, false
	}
	next := BeginLoad()
	if next == nil {
		return Usage{}, false
	}
	seconds := next.at.Sub(l.at).Seconds()
	ours := (next.ours - l.ours) / seconds
	return Usage{
		Ours:  ours,
		Other: max(0, (next.busy-l.busy)/seconds-ours), // the two are read one after the other, in ticks of 10 ms
		Steal: (next.steal - l.steal) / seconds,
	}, true
}

// machineTime is for how many seconds the machine's cores were busy, and were taken from it, since it started.
func machineTime() (busy, steal float64, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0, fmt.Errorf("read /proc/stat: %q", line)
	}
	for i, field := range fields[1:9] {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		switch i {
		case 3, 4: // idle, iowait
		case 7:
			steal = ticks / ticksPerSecond
		default:
			busy += ticks / ticksPerSecond
		}
	}
	return busy, steal, nil
}

// TreeTime is the processor time, in seconds, of a process and all its descendants, also of those that have ended.
func TreeTime(root int) (float64, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(files) == 0 {
		return 0, errors.New("no /proc: processor time is not known")
	}
	parents, times := map[int]int{}, map[int]float64{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		pid, parent, ticks, err := parseStat(text)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", file, err)
		}
		parents[pid], times[pid] = parent, ticks/ticksPerSecond
	}
	sum := 0.0
	for pid, seconds := range times {
		for at := pid; at != 0; at = parents[at] {
			if at == root {
				sum += seconds
				break
			}
		}
	}
	return sum, nil
}

// parseStat reads a line of /proc/PID/stat: the process, its parent, and the ticks of it and of its ended children. The name,
// second and in parentheses, may contain anything.
func parseStat(text []byte) (pid, parent int, ticks float64, err error) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return 0, 0, 0, fmt.Errorf("no name in %q", text)
	}
	rest := strings.Fields(string(text[end+1:]))
	if len(rest) < 15 {
		return 0, 0, 0, fmt.Errorf("too few fields in %q", text)
	}
	before, _, _ := strings.Cut(string(text), " ")
	if pid, err = strconv.Atoi(before); err != nil {
		return 0, 0, 0, err
	}
	if parent, err = strconv.Atoi(rest[1]); err != nil {
		return 0, 0, 0, err
	}
	for _, field := range rest[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, 0, 0, err
		}
		ticks += n
	}
	return pid, parent, ticks, nil
}
