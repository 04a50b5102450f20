// Package proc runs the child processes that tests and proofs kill: other programs, or their own program in another role.
//
//	parent                                            child
//
//	role.Env(config)     ── environment ──▶           role.Config(&config)
//	Start(ctx, Config)   ── a pipe, held open ──▶     EndWithParent()
//	Signal, Ended, State
package proc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// A Role is the name of the environment variable that tells a program to be something else: it has what to do there, as JSON.
type Role string

// Env returns the variable for a child, with what it is to do.
func (r Role) Env(config any) (string, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", r, err)
	}
	return string(r) + "=" + string(text), nil
}

// Given reports whether this process is a child in the role.
func (r Role) Given() bool { return os.Getenv(string(r)) != "" }

// Config reads what a child in the role is to do.
func (r Role) Config(into any) error {
	if err := json.Unmarshal([]byte(os.Getenv(string(r))), into); err != nil {
		return fmt.Errorf("read %s: %w", r, err)
	}
	return nil
}

// EndWithParent ends this process, a child, when its parent is gone, for whatever reason: the parent has the other end of its standard
// input.
func EndWithParent() {
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(1)
	}()
}

// Config is what to start.
type Config struct {
	Program string   // Defaults to this program.
	Args    []string // without the program
	Env     []string // beside the variables of this process
	Stderr  io.Writer
	Stdout  io.Writer         // unless there is Line
	Line    func(line []byte) // called with each line of the standard output, also with one that a kill has cut off
	Group   bool              // a process group of its own: what a terminal's Ctrl-C does to this process, does nothing to it
}

// A Process is a child. Its methods are safe for concurrent use.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start starts a process. It is killed when ctx ends.
func Start(ctx context.Context, c Config) (*Process, error) {
	program := c.Program
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
	}
	p := &Process{cmd: exec.CommandContext(ctx, program, c.Args...), ended: make(chan struct{})} //nolint:gosec // our own programs
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Stdout, p.cmd.Stderr = c.Stdout, c.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: c.Group}
	read := func() {}
	if c.Line != nil {
		p.cmd.Stdout = nil
		stdout, err := p.cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		read = func() { readLines(stdout, c.Line) }
	}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		defer close(p.ended)
		read()
		_ = p.cmd.Wait() // State says more
		_ = stdin.Close()
	}()
	return p, nil
}

func readLines(stdout io.Reader, line func([]byte)) {
	for lines := bufio.NewReader(stdout); ; {
		text, err := lines.ReadBytes('\n')
		if len(text) > 0 {
			line(bytes.TrimSuffix(text, []byte("\n")))
		}
		if err != nil {
			return
		}
	}
}

// Pid returns the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal. It does nothing to a process that has ended.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Ended is closed when the process has ended and all its output has been read.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill ends the process at once, even if it is stopped, and waits until it has ended.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.ended
}

// State waits until the process has ended, and returns how.
func (p *Process) State() *os.ProcessState {
	<-p.ended
	return p.cmd.ProcessState
}
