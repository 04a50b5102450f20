package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/systems"
)

// A Process is a child, seen from its parent.
type Process struct {
	Cmd     *exec.Cmd
	stdin   io.WriteCloser
	ready   chan struct{}
	ended   chan struct{}
	err     error                   // once it has ended
	first   atomic.Pointer[message] // what it told first of how many it has handled
	Handled atomic.Int64
	at      atomic.Int64 // when handled was so, in ns
}

// Work is what a worker process is to do.
type Work struct {
	Subscriptions []string      // Defaults to one
	Sleep         time.Duration // of each handler
	Metrics       bool          // tell Prometheus
	Distinct      int64         // count each of the first so many events once, and no others; 0 for all that is handled
}

// stopPatience is how long a process may take to finish what it began.
const stopPatience = time.Minute

// StartProcess starts a worker process of a system and returns when it is ready to begin. each, if not nil, is called with each
// event that it handles.
func (e *Env) StartProcess(ctx context.Context, d *Database, s systems.System, o Work, each func(n int64, at time.Time)) (*Process, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{WorkerRole, "--system", s.Info().Name, "--sleep", o.Sleep.String()}
	if len(o.Subscriptions) > 0 {
		args = append(args, "--subscriptions", strings.Join(o.Subscriptions, ","))
	}
	if o.Metrics {
		args = append(args, "--metrics")
	}
	if o.Distinct > 0 {
		args = append(args, "--distinct", strconv.FormatInt(o.Distinct, 10))
	}
	if each != nil {
		args = append(args, "--each")
	}
	p := &Process{Cmd: exec.CommandContext(ctx, binary, args...), ready: make(chan struct{}), ended: make(chan struct{})}
	p.Cmd.Env = append(os.Environ(), "DATABASE_URL="+d.URL)
	var complaints bytes.Buffer
	p.Cmd.Stderr = &complaints
	stdout, err := p.Cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.stdin, err = p.Cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.Cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a worker process: %w", err)
	}
	go func() {
		defer close(p.ended)
		read := p.read(stdout, each)
		if p.err = p.Cmd.Wait(); p.err != nil {
			p.err = fmt.Errorf("worker process: %w: %s", p.err, bytes.TrimSpace(complaints.Bytes()))
		} else {
			p.err = read
		}
	}()
	select {
	case <-p.ready:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("worker process ended at once: %w", p.err)
	}
}

func (p *Process) read(stdout io.Reader, each func(n int64, at time.Time)) error {
	for lines := json.NewDecoder(stdout); ; {
		var m message
		if err := lines.Decode(&m); errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			return nil
		} else if err != nil {
			_, _ = io.Copy(io.Discard, stdout) // a killed one leaves half a line
			return fmt.Errorf("worker process: read its messages: %w", err)
		}
		switch {
		case m.Ready:
			close(p.ready)
		case m.N > 0:
			each(m.N-1, time.Unix(0, m.At))
		default:
			p.first.CompareAndSwap(nil, &m)
			p.at.Store(m.At)
			p.Handled.Store(m.Handled)
		}
	}
}

// Begin has it begin.
func (p *Process) Begin() error {
	_, err := io.WriteString(p.stdin, "go\n")
	return err
}

// Stop has it finish what it began, and waits.
func (p *Process) Stop() error {
	_ = p.stdin.Close() // it may have ended
	select {
	case <-p.ended:
		return p.err
	case <-time.After(stopPatience):
		p.Kill()
		return fmt.Errorf("worker process did not stop within %v", stopPatience)
	}
}

// Kill ends it without asking.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // it may have ended
	<-p.ended
}

// A Crew is several processes.
type Crew []*Process

// StartCrew starts size processes that are ready to begin.
func (e *Env) StartCrew(ctx context.Context, d *Database, s systems.System, size int, o Work) (Crew, error) {
	var c Crew
	for range size {
		p, err := e.StartProcess(ctx, d, s, o, nil)
		if err != nil {
			return nil, errors.Join(err, c.Stop())
		}
		c = append(c, p)
	}
	return c, nil
}

// Begin has all of them begin.
func (c Crew) Begin() error {
	for _, p := range c {
		if err := p.Begin(); err != nil {
			return err
		}
	}
	return nil
}

// Stop has all of them finish what they began, and waits.
func (c Crew) Stop() error {
	var errs []error
	for _, p := range c {
		errs = append(errs, p.Stop())
	}
	return errors.Join(errs...)
}

// Kill ends those that still live.
func (c Crew) Kill() {
	for _, p := range c {
		p.Kill()
	}
}

func (c Crew) handled() int64 {
	n := int64(0)
	for _, p := range c {
		n += p.Handled.Load()
	}
	return n
}

// first is how many events a process had handled when the first of them told, and when that was.
func (c Crew) first() (int64, time.Time) {
	var earliest *message
	for _, p := range c {
		if m := p.first.Load(); m != nil && (earliest == nil || m.At < earliest.At) {
			earliest = m
		}
	}
	return earliest.Handled, time.Unix(0, earliest.At)
}

// StuckAfter is how long a crew may handle nothing.
const StuckAfter = time.Minute

// Handle waits until they have handled n events, and returns when that was.
func (c Crew) Handle(ctx context.Context, n int64) (time.Time, error) {
	err := Progress(ctx, n, c.handled, func() error {
		for _, p := range c {
			select {
			case <-p.ended:
				return fmt.Errorf("a worker process ended: %w", p.err)
			default:
			}
		}
		return nil
	})
	if err != nil {
		return time.Time{}, err
	}
	at := int64(0)
	for _, p := range c {
		at = max(at, p.at.Load())
	}
	return time.Unix(0, at), nil
}

// Progress waits until n events are handled. It gives up when there are no more of them for a while, or when something is wrong.
func Progress(ctx context.Context, n int64, handled func() int64, wrong func() error) error {
	for last, since := int64(-1), time.Now(); ; {
		now := handled()
		if now >= n {
			return nil
		}
		if now != last {
			last, since = now, time.Now()
		} else if time.Since(since) > StuckAfter {
			return fmt.Errorf("only %d of %d events are handled, and none for %v", now, n, StuckAfter)
		}
		if err := wrong(); err != nil {
			return err
		}
		if err := Pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}
