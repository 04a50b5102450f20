package upgrade_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pinned is the commit that stands for the release before this one: its programs have to work on today's schema.
//
// Migrations that the pin has do not change; a change is a new migration. From the first release on, the pin is the commit of the last
// release. Until then, a migration may still be edited in place, and the pin moves with it: commit the edit, then set pinned to that commit in
// the next one. It has to be in the history of the main branch, which is what CI fetches.
const pinned = "4c7f9e24309337be2feb56bd7777f98cb91b6855"

const root = "../.."

// git runs git in the repository.
func git(args ...string) ([]byte, error) {
	cmd := exec.Command("git", append([]string{"-c", "safe.directory=*", "-C", root}, args...)...) //nolint:gosec // our own arguments
	out, err := cmd.Output()
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(failed.Stderr))
	}
	if err != nil {
		return nil, fmt.Errorf("git %s: %w", args[0], err)
	}
	return out, nil
}

// there wants the pinned commit. Where it is missing, nothing is shown about upgrades, so the tests fail.
func there(t *testing.T) {
	t.Helper()
	if _, err := git("cat-file", "-e", pinned+"^{commit}"); err != nil {
		t.Fatalf(`the pinned commit %.8s is not in this clone: fetch the whole history with "git fetch --unshallow", as CI does: %v`, pinned, err)
	}
}

// stay wants the migrations that the pinned commit has to be what they were: databases of its release would never get an edit.
func stay(t *testing.T) {
	t.Helper()
	there(t)
	list, err := git("ls-tree", "-r", "--name-only", pinned, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	var compared, edited []string
	for file := range strings.Lines(string(list)) {
		if file = strings.TrimSpace(file); !strings.HasSuffix(file, ".sql") {
			continue
		}
		compared = append(compared, file)
		then, err := git("show", pinned+":"+file)
		if err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(filepath.Join(root, file)); err != nil || !bytes.Equal(now, then) {
			edited = append(edited, file)
		}
	}
	if len(edited) > 0 {
		t.Fatalf("%s: not what it was at the pinned commit %.8s: add a migration instead of an edit or, before the first release, "+
			"move the pin (proof/upgrade/pin_test.go says how)", strings.Join(edited, ", "), pinned)
	}
	if len(compared) < 4 {
		t.Fatalf("the pinned commit has the migrations %v", compared)
	}
}

func TestMigrationsStay(t *testing.T) {
	t.Parallel()
	stay(t)
}
