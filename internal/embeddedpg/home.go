package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// homePrefix begins the name of every home, so that sweep finds them.
const homePrefix = "signalbox-pg-"

// A home is the folder of one server. Two locks on it, which the kernel drops with the last process that holds them, say
// who is alive, where a number in a file could name a stranger by now:
//
//   - on the folder: the process that started the server, or its watchdog;
//   - on its data folder: postgres (the postmaster or a backend), or the process that started it.
type home struct {
	path     string
	lock     *os.File // inherited by the watchdog
	dataLock *os.File // inherited by postgres
}

func (h *home) data() string         { return filepath.Join(h.path, "data") }
func (h *home) log() string          { return filepath.Join(h.path, "server.log") }
func (h *home) passwordFile() string { return filepath.Join(h.path, "password") }

// tempFolder is where homes are made: the system's place, if the account can use it. It cannot when root's TMPDIR is
// private to root.
func tempFolder(ctx context.Context, acct account) (string, error) {
	if acct.credential == nil {
		return os.TempDir(), nil
	}
	for _, folder := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if acct.canUse(ctx, folder) {
			return folder, nil
		}
	}
	return "", fmt.Errorf("no folder for temporary files that user %s can write to: set TMPDIR to one", acct.name)
}

// newHome makes a home and locks it.
func newHome(base string, acct account) (*home, error) {
	for {
		path, err := os.MkdirTemp(base, homePrefix)
		if err != nil {
			return nil, fmt.Errorf("make a folder for PostgreSQL: %w", err)
		}
		lock, err := lockFolder(path)
		if errors.Is(err, errLocked) || errors.Is(err, os.ErrNotExist) {
			continue // A sweep took it before we had the lock: it goes, make another.
		}
		h := &home{path: path, lock: lock}
		if err == nil {
			err = h.furnish(acct)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make a folder for PostgreSQL: %w", err), h.remove())
		}
		return h, nil
	}
}

func (h *home) furnish(acct account) (err error) {
	if err := os.Mkdir(h.data(), 0o700); err != nil {
		return err
	}
	if h.dataLock, err = lockFolder(h.data()); err != nil {
		return err
	}
	// The folder last: until then it is root's own, and nobody can plant a link in it.
	return acct.own(h.data(), h.path)
}

// remove deletes what the watchdog may have deleted already, and drops the locks.
func (h *home) remove() error {
	if h == nil {
		return nil
	}
	err := os.RemoveAll(h.path)
	// Closing a nil file is a harmless error, and so is any other: the locks go with the process at the latest.
	_ = h.dataLock.Close()
	_ = h.lock.Close()
	if err != nil {
		return fmt.Errorf("remove PostgreSQL's folder: %w", err)
	}
	return nil
}

// sweep removes the homes that nobody owns: their process and its watchdog were both killed.
func sweep(ctx context.Context, base string, acct account) error {
	paths, err := filepath.Glob(filepath.Join(base, homePrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		if err := sweepHome(ctx, path, acct); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

func sweepHome(ctx context.Context, path string, acct account) error {
	// Of other users' folders we could remove little, and must believe nothing.
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || int(info.Sys().(*syscall.Stat_t).Uid) != acct.uid {
		return nil
	}
	lock, err := lockFolder(path)
	switch {
	case errors.Is(err, errLocked), errors.Is(err, os.ErrNotExist):
		return nil // In use, or swept by somebody else meanwhile.
	case err != nil:
		return err
	}
	defer lock.Close()

	h := &home{path: path}
	pid := 0
	dataLock, err := lockFolder(h.data())
	switch {
	case errors.Is(err, errLocked):
		if pid, err = h.postmasterPid(); err != nil {
			return err
		}
	case err == nil:
		_ = dataLock.Close()
	}
	return cleanUp(ctx, acct, path, pid)
}

// postmasterPid reads the pid that a running server wrote.
func (h *home) postmasterPid() (int, error) {
	text, err := os.ReadFile(filepath.Join(h.data(), "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(first)
}

// errLocked says that somebody else has the lock.
var errLocked = errors.New("folder is locked")

// lockFolder takes the lock of a folder without waiting. The lock lasts until the file, and each copy of it that
// children inherited, is closed.
func lockFolder(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The folder may have been removed between the two calls: then the lock is on nothing.
	if now, err := os.Lstat(path); err != nil {
		_ = f.Close()
		return nil, err
	} else if opened, err := f.Stat(); err != nil || !os.SameFile(now, opened) {
		_ = f.Close()
		return nil, os.ErrNotExist
	}
	return f, nil
}
