package embeddedpg

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// An account is the user that PostgreSQL runs as: ourselves, or somebody without rights when we are root.
type account struct {
	name       string
	uid        int
	credential *syscall.Credential // nil: children run as ourselves
}

// currentAccount picks nobody for root. The number stands in where the machine has no such name.
func currentAccount() (account, error) {
	if uid := os.Geteuid(); uid != 0 {
		return account{name: strconv.Itoa(uid), uid: uid}, nil
	}
	name, uid, gid := "nobody", "65534", "65534"
	if u, err := user.Lookup(name); err == nil {
		uid, gid = u.Uid, u.Gid
	}
	// 32 bits unsigned: macOS numbers nobody 4294967294.
	uid32, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("read the uid of %s: %w", name, err)
	}
	gid32, err := strconv.ParseUint(gid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("read the gid of %s: %w", name, err)
	}
	return account{
		name:       name,
		uid:        int(uid32),
		credential: &syscall.Credential{Uid: uint32(uid32), Gid: uint32(gid32)},
	}, nil
}

// own hands paths over to the account.
func (a account) own(paths ...string) error {
	if a.credential == nil {
		return nil
	}
	for _, path := range paths {
		if err := os.Lchown(path, int(a.credential.Uid), int(a.credential.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// command prepares a child that runs as the account, in a session of its own: Ctrl-C in the terminal and the end of the
// terminal are for this process to handle, they must not take the database away before its clients.
// The end of ctx interrupts it.
func (a account) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: a.credential}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = interruptPatience
	cmd.Env = environment()
	// Not our working directory: PostgreSQL's tools fail in one that their user cannot enter.
	cmd.Dir = "/"
	return cmd
}

// canUse asks the system, as the account, whether a folder can be entered and written: mode bits would not tell of all
// the folders above it.
func (a account) canUse(ctx context.Context, folder string) bool {
	return a.command(ctx, "/bin/sh", "-c", `test -x "$1" && test -w "$1"`, "sh", folder).Run() == nil
}

// environment is ours without what would change PostgreSQL under our feet: its own variables (PGDATA, PGPORT, …) and the
// locale, since we read its messages. macOS's postmaster also dies without a locale. A known time zone spares initdb the
// comparison of the machine's with all others.
func environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "LC_") || name == "LANG" || name == "TZ" || name == "PATH" {
			continue
		}
		env = append(env, kv)
	}
	// The watchdog needs rm and sleep, whatever our PATH is.
	return append(env, "LC_ALL=C", "TZ=UTC", "PATH="+os.Getenv("PATH")+":/usr/bin:/bin")
}
