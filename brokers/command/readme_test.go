package command_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/signalbox-go/signalbox/brokers/drive"
	broker "github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/internal/needs"
	"github.com/signalbox-go/signalbox/internal/proc"
)

// TestREADME runs the five lines of the README as they are printed. The first two are of NATS: a server of this test takes their place, at an address of
// its own, with a stream of these subjects.
func TestREADME(t *testing.T) {
	t.Parallel()
	needs.Program(t, "apt-get install postgresql-client", "psql")
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, lines, found := strings.Cut(string(readme), "nats-server --jetstream &\n")
	if !found {
		t.Fatal("the README does not start NATS")
	}
	lines, _, _ = strings.Cut(lines, "```")
	add, lines, _ := strings.Cut(lines, "\n")
	parts := strings.Split(add, "'")
	if !strings.HasPrefix(add, "nats stream add ") || len(parts) != 3 {
		t.Fatalf("the second line is %q", add)
	}
	c := build(t)
	server := broker.Start(t, "")
	to := stream(t, server, jetstream.StreamConfig{Name: strings.Fields(add)[3], Subjects: []string{parts[1]}})
	setup, relay, _ := strings.Cut(lines, "outbox relay ")
	if !strings.Contains(relay, "nats://localhost:4222") {
		t.Fatalf("the last line is %q", relay)
	}
	env := []string{"DATABASE_URL=" + c.db.URL, "PATH=" + filepath.Dir(c.program) + ":" + os.Getenv("PATH")}
	before := exec.CommandContext(t.Context(), "sh", "-e", "-c", setup)
	before.Env = append(os.Environ(), env...)
	if out, err := before.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := &relaying{}
	r.process, err = proc.Start(context.WithoutCancel(t.Context()), proc.Config{
		Program: "sh", Args: []string{"-c", "exec outbox relay " + strings.Replace(relay, "nats://localhost:4222", server.URL(), 1)}, Env: env, Stderr: r,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.process.Signal(syscall.SIGTERM)
		if state := r.process.State(); state.ExitCode() != 0 {
			t.Errorf("exit code %d\n%s", state.ExitCode(), r.log.String())
		}
	})
	drive.Until(t, "the event is stored", func() bool { return len(stored(t, to)) == 1 })
	m, err := to.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var order struct{ Total int }
	if err := json.Unmarshal(m.Data, &order); err != nil || m.Subject != "orders.placed" || order.Total != 4200 || m.Header.Get("ce-source") != "/outbox" {
		t.Errorf("%v, %s has %s, %v", err, m.Subject, m.Data, m.Header)
	}
}
