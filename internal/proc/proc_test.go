package proc_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/signalbox-go/signalbox/internal/proc"
)

const role proc.Role = "SIGNALBOX_PROC_TEST"

type config struct {
	Say    []string
	Long   int // how long a last line is, which does not end
	Code   int
	Parent string // a file: start a child, write its number there, and wait
	Wait   bool
}

func TestMain(m *testing.M) {
	if role.Given() {
		child()
	}
	goleak.VerifyTestMain(m)
}

func child() {
	var c config
	if err := role.Config(&c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	proc.EndWithParent()
	for _, line := range c.Say {
		fmt.Println(line)
	}
	fmt.Print(strings.Repeat("x", c.Long))
	if c.Parent != "" {
		env, _ := role.Env(config{Wait: true})
		grandchild, err := proc.Start(context.Background(), proc.Config{Env: []string{env}})
		if err != nil {
			os.Exit(2)
		}
		_ = os.WriteFile(c.Parent, []byte(strconv.Itoa(grandchild.Pid())), 0o600)
		fmt.Println("ready")
	}
	if c.Wait || c.Parent != "" {
		select {}
	}
	os.Exit(c.Code)
}

func start(t *testing.T, c config, line func([]byte)) *proc.Process {
	t.Helper()
	env, err := role.Env(c)
	if err != nil {
		t.Fatal(err)
	}
	p, err := proc.Start(t.Context(), proc.Config{Env: []string{env}, Line: line, Stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestLines(t *testing.T) {
	t.Parallel()
	const long = 1 << 20 // more than a pipe holds
	var lines []string
	p := start(t, config{Say: []string{"one", "two"}, Long: long, Code: 3}, func(line []byte) { lines = append(lines, string(line)) })
	if code := p.State().ExitCode(); code != 3 {
		t.Errorf("ended with %v", p.State())
	}
	if len(lines) != 3 || lines[0] != "one" || lines[1] != "two" || len(lines[2]) != long {
		t.Errorf("read %d lines: %.100q", len(lines), lines)
	}
	p.Signal(syscall.SIGTERM) // which does nothing to what has ended
}

// A process that is stopped ends as well.
func TestKill(t *testing.T) {
	t.Parallel()
	up := make(chan struct{})
	p := start(t, config{Say: []string{"up"}, Wait: true}, func([]byte) { close(up) })
	<-up
	p.Signal(syscall.SIGSTOP)
	p.Kill()
	if status, ok := p.State().Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v", p.State())
	}
}

// When a parent is killed, its children end: they do not stay on the machine.
func TestEndWithParent(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "child")
	ready := make(chan struct{})
	p := start(t, config{Parent: file}, func([]byte) { close(ready) })
	<-ready
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the child is not there: %v", err)
	}
	p.Kill()
	for deadline := time.Now().Add(30 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the child outlives its parent")
		}
	}
}

// alive reports whether a process runs. One that has ended, and for which no parent has waited yet, does not.
func alive(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		_, after, _ := bytes.Cut(stat, []byte(") "))
		return !bytes.HasPrefix(after, []byte("Z"))
	}
	return syscall.Kill(pid, 0) == nil
}

func TestNoProgram(t *testing.T) {
	t.Parallel()
	if _, err := proc.Start(t.Context(), proc.Config{Program: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("started what there is not")
	}
}
