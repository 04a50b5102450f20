package embeddedpg

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestParentKilled(t *testing.T) {
	t.Parallel()
	h := startHolder(t, openFolder(t))
	query[int](t, h.url, "select 1")
	h.kill()
	awaitGone(t, h.url, h.folder)
}

func TestParentKilledDuringInitdb(t *testing.T) {
	t.Parallel()
	base := openFolder(t)
	h := launchHolder(t, base)
	await(t, "initdb to be under way", func() bool {
		for _, folder := range homes(t, base) {
			if _, err := os.Stat(filepath.Join(folder, "data", "base")); err == nil {
				return true
			}
		}
		return false
	})
	h.kill()
	await(t, "the folder to go", func() bool { return len(homes(t, base)) == 0 })
}

func TestHungServerOfKilledParent(t *testing.T) {
	t.Parallel()
	h := startHolder(t, openFolder(t))
	pid, err := (&home{path: h.folder}).postmasterPid()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.kill()
	awaitGone(t, h.url, h.folder)
}

func TestInterruptFromTerminalSparesServer(t *testing.T) {
	t.Parallel()
	h := startHolder(t, openFolder(t))
	// To the whole foreground job, as a terminal does. The holder ignores it; postgres and the watchdog must not get it.
	if err := syscall.Kill(-h.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	query[int](t, h.url, "select 1")
	h.kill()
	awaitGone(t, h.url, h.folder)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	base := openFolder(t)
	acct, err := currentAccount()
	if err != nil {
		t.Fatal(err)
	}
	living, orphan, emptied := startHolder(t, base), startHolder(t, base), filepath.Join(base, homePrefix+"0")
	// What is left when even postgres is gone, as after a restart of the machine.
	if err := os.MkdirAll(filepath.Join(emptied, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(emptied, "data", "postmaster.pid"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := acct.own(emptied, filepath.Join(emptied, "data")); err != nil {
		t.Fatal(err)
	}
	// Somebody else's, by its name alone.
	foreign := filepath.Join(base, homePrefix+"file")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	if err := syscall.Kill(orphan.watchdog, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	orphan.kill()
	query[int](t, orphan.url, "select 1") // It lives: nobody was there to stop it.

	if err := sweep(t.Context(), base, acct); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, orphan.url, orphan.folder)
	if left := homes(t, base); len(left) != 2 {
		t.Errorf("left are %v, want %s and %s", left, living.folder, foreign)
	}
	query[int](t, living.url, "select 1")
	living.kill()
	awaitGone(t, living.url, living.folder)
}

func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	base := openFolder(t)
	first, second := launchHolder(t, base), launchHolder(t, base)
	first.awaitReady(t)
	second.awaitReady(t)
	query[int](t, first.url, "select 1")
	first.kill()
	awaitGone(t, first.url, first.folder)
	query[int](t, second.url, "select 1")
	second.kill()
	awaitGone(t, second.url, second.folder)
}
