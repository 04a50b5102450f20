package terminal

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/shoptest"
)

// The program as people run it is built once, when the first test asks for it.
var (
	binaryFolder string
	binary       = sync.OnceValues(func() (string, error) {
		var err error
		if binaryFolder, err = os.MkdirTemp("", "outbox-binary-"); err != nil {
			return "", err
		}
		path := filepath.Join(binaryFolder, "outbox")
		build := exec.Command("go", "build", "-o", path, "./cmd/outbox")
		build.Dir = "../.." // the module of the command
		if out, err := build.CombinedOutput(); err != nil {
			return "", errors.New(string(out))
		}
		return path, nil
	})
)

func removeBinary() { _ = os.RemoveAll(binaryFolder) }

func TestMain(m *testing.M) { pgtest.Main(m, removeBinary) }

// outbox runs the command in a terminal of so many rows and columns.
func outbox(t *testing.T, s shoptest.Shop, rows, columns uint16, args ...string) *terminal {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(without(os.Environ(), "SIGNALBOX_", "DATABASE_URL=", "TERM="), "DATABASE_URL="+s.URL, "TERM=xterm")
	w := &terminal{}
	w.start(t, cmd, rows, columns)
	return w
}

// answer waits for a question, types an answer, and wants an exit code and a text.
func (w *terminal) answer(t *testing.T, question, answer string, code int, says string) {
	t.Helper()
	shoptest.Eventually(t, "it asks "+question, func() bool { return !w.busy() || strings.Contains(w.text(), question) })
	w.types(t, answer+"\n")
	w.ends(t)
	if got := w.cmd.ProcessState.ExitCode(); got != code || !strings.Contains(w.text(), question) || !strings.Contains(w.text(), says) {
		t.Errorf("%q: exit code %d\n%s", answer, got, w.text())
	}
}

// What changes much is asked about, and only a yes is one.
func TestConfirmation(t *testing.T) {
	t.Parallel()
	s := shoptest.Shop{DB: pgtest.New(t)}
	s.Subscribe(t, "mails", ">")
	s.Bury(t, "mails", 1, 3, "refused")
	s.Bury(t, "mails", 4, 6, "no such customer")
	retry := func(args ...string) *terminal {
		return outbox(t, s, 24, 200, append([]string{"deliveries", "retry", "-s", "mails"}, args...)...)
	}
	remove := func() *terminal { return outbox(t, s, 24, 200, "subscriptions", "delete", "mails") }

	retry().answer(t, `Retry 6 deliveries of "mails"? [y/N]`, "no", 4, "nothing was changed")
	for _, no := range []string{"", "n", "what"} {
		remove().answer(t, "6 deliveries? [y/N]", no, 4, "nothing was changed")
	}
	if got := s.States(t, "mails"); got["dead"] != 6 {
		t.Errorf("after refusals: %v", got)
	}
	retry("--error", "refused").answer(t, `Retry 3 deliveries of "mails"? [y/N]`, "YES", 0, "3 deliveries will be tried again")
	if got := s.States(t, "mails"); got["dead"] != 3 || got["retrying"] != 3 {
		t.Errorf("after the retry: %v", got)
	}
	remove().answer(t, "6 deliveries? [y/N]", "y", 0, "mails is deleted")
}

// A replay shows how far it is.
func TestProgress(t *testing.T) {
	t.Parallel()
	s := shoptest.Shop{DB: pgtest.New(t)}
	s.Subscribe(t, "mails", ">")
	for range 2 {
		s.Publish(t, "orders.placed", "A-17", "{}")
	}
	s.Exec(t, `update outbox.lanes set after_id = (select max(e.id) from outbox.events e)`) // they are settled
	w := outbox(t, s, 24, 200, "replay", "mails", "--key", "A-17", "--yes")
	w.ends(t)
	for _, text := range []string{"replaying", "2 events will be handled again by mails."} {
		if !strings.Contains(w.text(), text) {
			t.Errorf("it does not say %q:\n%s", text, w.text())
		}
	}
}

// Each look of a status that is watched replaces the one before, and lines are cut to the terminal's width.
func TestStatusWatch(t *testing.T) {
	t.Parallel()
	s := shoptest.Shop{DB: pgtest.New(t)}
	s.Subscribe(t, strings.Repeat("long", 30), ">")
	w := outbox(t, s, 10, 40, "status", "--watch")
	shoptest.Eventually(t, "it is drawn twice", func() bool {
		return strings.Count(w.screen.String(), "\x1b[H") >= 2 && strings.HasSuffix(w.screen.String(), "\x1b[J")
	})
	w.interrupt(t)
	if code := w.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("after Ctrl-C: exit code %d", code)
	}
	screen := w.screen.String()
	for line := range strings.SplitSeq(screen, "\r\n") {
		text := strings.NewReplacer("\x1b[2J", "", "\x1b[H", "", "\x1b[K", "", "\x1b[J", "", "^C", "").Replace(line)
		if n := len([]rune(text)); n > 40 {
			t.Errorf("a line of %d characters: %q", n, text)
		}
	}
	if !strings.Contains(screen, "longlong") || !strings.Contains(screen, "SUBSCRIPTION") {
		t.Errorf("screen: %q", screen)
	}
}
