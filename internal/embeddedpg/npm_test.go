//go:build npm

package embeddedpg

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestFetchedPostgres asks the real registry, so it runs only with -tags npm: after each change of the pinned version.
// The machine's own PostgreSQL is out of sight here.
func TestFetchedPostgres(t *testing.T) {
	tools := openFolder(t)
	for _, tool := range []string{"npm", "node"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(tools, tool)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", tools)
	t.Setenv("SIGNALBOX_PG_BIN", "")
	acct, err := currentAccount()
	if err != nil {
		t.Fatal(err)
	}
	found, err := find(t.Context(), acct, nil, filepath.Join(openFolder(t), "cache"), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if found.version != 18 {
		t.Errorf("version %d", found.version)
	}

	t.Setenv("SIGNALBOX_PG_BIN", found.bin)
	s := startServer(t)
	if got := query[int](t, s.URL("postgres"), "select current_setting('server_version_num')::int / 10000"); got != 18 {
		t.Errorf("connected to version %d", got)
	}
}
