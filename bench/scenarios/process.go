package scenarios

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

// A process is a child, seen from its parent.
type process struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	ready   chan struct{}
	ended   chan struct{}
	err     error                   // once it has ended
	first   atomic.Pointer[message] // what it told first of how many it has handled
	handled atomic.Int64
	at      atomic.Int64 // when handled was so, in ns
}

// work is what a worker process is to do.
type work struct {
	subscriptions []string      // Defaults to one
	sleep         time.Duration // of each handler
	metrics       bool          // tell Prometheus
	distinct      int64         // count each of the first so many events once, and no others; 0 for all that is handled
}

// stopPatience is how long a process may take to finish what it began.
const stopPatience = time.Minute

// startProcess starts a worker process of a system and returns when it is ready to begin. each, if not nil, is called with each
// event that it handles.
func (e *env) startProcess(ctx context.Context, d *database, s systems.System, o work, each func(n int64, at time.Time)) (*process, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{WorkerRole, "--system", s.Info().Name, "--sleep", o.sleep.String()}
	if len(o.subscriptions) > 0 {
		args = append(args, "--subscriptions", strings.Join(o.subscriptions, ","))
	}
	if o.metrics {
		args = append(args, "--metrics")
	}
	if o.distinct > 0 {
		args = append(args, "--distinct", strconv.FormatInt(o.distinct, 10))
	}
	if each != nil {
		args = append(args, "--each")
	}
	p := &process{cmd: exec.CommandContext(ctx, binary, args...), ready: make(chan struct{}), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "DATABASE_URL="+d.url)
	var complaints bytes.Buffer
	p.cmd.Stderr = &complaints
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a worker process: %w", err)
	}
	go func() {
		defer close(p.ended)
		read := p.read(stdout, each)
		if p.err = p.cmd.Wait(); p.err != nil {
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

func (p *process) read(stdout io.Reader, each func(n int64, at time.Time)) error {
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
			p.handled.Store(m.Handled)
		}
	}
}

// begin has it begin.
func (p *process) begin() error {
	_, err := io.WriteString(p.stdin, "go\n")
	return err
}

// stop has it finish what it began, and waits.
func (p *process) stop() error {
	_ = p.stdin.Close() // it may have ended
	select {
	case <-p.ended:
		return p.err
	case <-time.After(stopPatience):
		p.kill()
		return fmt.Errorf("worker process did not stop within %v", stopPatience)
	}
}

// kill ends it without asking.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// A crew is several processes.
type crew []*process

func (e *env) startCrew(ctx context.Context, d *database, s systems.System, size int, o work) (crew, error) {
	var c crew
	for range size {
		p, err := e.startProcess(ctx, d, s, o, nil)
		if err != nil {
			return nil, errors.Join(err, c.stop())
		}
		c = append(c, p)
	}
	return c, nil
}

func (c crew) begin() error {
	for _, p := range c {
		if err := p.begin(); err != nil {
			return err
		}
	}
	return nil
}

func (c crew) stop() error {
	var errs []error
	for _, p := range c {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}

// kill ends those that still live.
func (c crew) kill() {
	for _, p := range c {
		p.kill()
	}
}

func (c crew) handled() int64 {
	n := int64(0)
	for _, p := range c {
		n += p.handled.Load()
	}
	return n
}

// first is how many events a process had handled when the first of them told, and when that was.
func (c crew) first() (int64, time.Time) {
	var earliest *message
	for _, p := range c {
		if m := p.first.Load(); m != nil && (earliest == nil || m.At < earliest.At) {
			earliest = m
		}
	}
	return earliest.Handled, time.Unix(0, earliest.At)
}

// stuckAfter is how long a crew may handle nothing.
const stuckAfter = time.Minute

// handle waits until they have handled n events, and returns when that was.
func (c crew) handle(ctx context.Context, n int64) (time.Time, error) {
	err := progress(ctx, n, c.handled, func() error {
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

// progress waits until n events are handled. It gives up when there are no more of them for a while, or when something is wrong.
func progress(ctx context.Context, n int64, handled func() int64, wrong func() error) error {
	for last, since := int64(-1), time.Now(); ; {
		now := handled()
		if now >= n {
			return nil
		}
		if now != last {
			last, since = now, time.Now()
		} else if time.Since(since) > stuckAfter {
			return fmt.Errorf("only %d of %d events are handled, and none for %v", now, n, stuckAfter)
		}
		if err := wrong(); err != nil {
			return err
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}
