package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Tool is the command "outbox", as operators have it. It is built once in a run.
func (e *Env) Tool(ctx context.Context) (string, error) {
	if e.outbox != "" {
		return e.outbox, nil
	}
	source, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/signalbox-go/signalbox").Output()
	if err != nil {
		return "", fmt.Errorf("build outbox: where is its source? %w", explained(err))
	}
	folder, err := os.MkdirTemp("", "signalbox-bench-")
	if err != nil {
		return "", err
	}
	e.AtEnd(func() { _ = os.RemoveAll(folder) })
	path := filepath.Join(folder, "outbox")
	if _, err := exec.CommandContext(ctx, "go", "build", "-C", strings.TrimSpace(string(source)), "-o", path, "./cmd/outbox").Output(); err != nil {
		return "", fmt.Errorf("build outbox: %w", explained(err))
	}
	e.outbox = path
	return path, nil
}

// Operate returns the command with arguments, for a database.
func (e *Env) Operate(ctx context.Context, d *Database, args ...string) (*exec.Cmd, error) {
	path, err := e.Tool(ctx)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+d.URL)
	return cmd, nil
}

// Answer waits for a command that was started with the given output, and reads its JSON. Exit codes beside 0 may be fine.
func Answer(cmd *exec.Cmd, output *bytes.Buffer, into any, fine ...int) error {
	err := cmd.Wait()
	for _, code := range fine {
		if cmd.ProcessState.ExitCode() == code {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args[1:], " "), err)
	}
	if err := json.Unmarshal(output.Bytes(), into); err != nil {
		return fmt.Errorf("%s: read its answer: %w", strings.Join(cmd.Args[1:], " "), err)
	}
	return nil
}

// explained has what a failed command complained of.
func explained(err error) error {
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(failed.Stderr))
	}
	return err
}
