package embeddedpg

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
)

// watchdogScript outlives us: it reads the postmaster's pid, and each change of it, from a pipe that only we can write.
// At its end we are gone, for whatever reason: it stops that server at once and removes the folder.
// Signals that are meant to stop us must not stop it before it has done so.
const watchdogScript = `
trap '' HUP INT TERM
folder=$1 pid=$2
while read -r line; do pid=$line; done
if [ "$pid" -gt 0 ]; then
	kill -QUIT "$pid" 2>/dev/null
	tries=0
	# The file goes when the server has ended. The pid may stay, in containers where nobody waits for orphans.
	while kill -0 "$pid" 2>/dev/null && [ -e "$folder/data/postmaster.pid" ] && [ $tries -lt 100 ]; do
		sleep 0.1
		tries=$((tries + 1))
	done
	kill -KILL "$pid" 2>/dev/null
fi
# A server that was killed leaves its bit of System V shared memory, of which macOS has room for 32. Line 7 ends with the id.
killed=$(sed -n '7s/.* //p' "$folder/data/postmaster.pid" 2>/dev/null)
[ -z "$killed" ] || ipcrm -m "$killed" 2>/dev/null
# Again, for backends that were still writing while their postmaster died.
rm -rf "$folder" 2>/dev/null || { sleep 1; rm -rf "$folder"; }
`

// A watchdog is the child that cleans up after us.
type watchdog struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

func startWatchdog(acct account, h *home) (*watchdog, error) {
	// No context: it lives as long as the server.
	cmd := acct.command(context.Background(), "/bin/sh", "-c", watchdogScript, "signalbox-pg-watchdog", h.path, "0")
	cmd.ExtraFiles = []*os.File{h.lock}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL's watchdog: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start PostgreSQL's watchdog: %w", err)
	}
	return &watchdog{cmd: cmd, pipe: pipe}, nil
}

// watch tells which process to stop; 0 for none, as soon as it has been waited for: then the system may give its number
// to a stranger.
func (w *watchdog) watch(pid int) error {
	if _, err := io.WriteString(w.pipe, strconv.Itoa(pid)+"\n"); err != nil {
		return fmt.Errorf("tell PostgreSQL's watchdog: %w", err)
	}
	return nil
}

// dismiss ends the watchdog, which removes the folder on its way.
func (w *watchdog) dismiss() {
	if w == nil {
		return
	}
	_ = w.pipe.Close()
	// Its exit status tells nothing of use: the folder is looked after next, by us.
	_ = w.cmd.Wait()
}

// cleanUp does at once what a watchdog does at the end: stop the process, unless pid is 0, and remove the folder.
// It runs as the account, so a forged pid can do no harm that its author could not do.
func cleanUp(ctx context.Context, acct account, folder string, pid int) error {
	cmd := acct.command(ctx, "/bin/sh", "-c", watchdogScript, "signalbox-pg-sweep", folder, strconv.Itoa(pid))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
