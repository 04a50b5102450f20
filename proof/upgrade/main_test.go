package upgrade_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
)

func TestMain(m *testing.M) {
	pgtest.Main(m, func() { _ = os.RemoveAll(buildFolder) })
}

// buildFolder has what build makes, once that was asked for.
var buildFolder string

// The tables that programs use, each of which gets a column. In one migration each: one that waits for a second table while it has locked a
// first one deadlocks with workers, which use several.
var tables = []string{
	"workers", "members", "subscriptions", "lanes", "progress", "deliveries", "held_keys", "trimmed", "cluster", "topic_changes", "features", "events",
}

// Releases are folders of built programs.
type releases struct {
	folder string
	old    string // the pinned commit's
	next   string // today's, with migrations that add to the schema and serve the old ones
	after  string // the command outbox, with one more, which does not serve the old ones

	oldest, current, added, raised int32 // versions of the outbox's schema: the pinned one, today's, and those of next and after
}

// build makes the programs, once.
var build = sync.OnceValues(func() (r *releases, err error) {
	r = &releases{}
	if r.folder, err = os.MkdirTemp("", "signalbox-upgrade-"); err != nil {
		return nil, err
	}
	buildFolder = r.folder
	if err := r.buildOld(); err != nil {
		return nil, err
	}
	if r.current, err = migrations.Outbox.Newest(); err != nil {
		return nil, err
	}
	overlay, version := map[string]string{}, r.current
	add := func(what, sql, undo string, serves int32) error {
		version++
		name := fmt.Sprintf("%03d_%s.sql", version, what)
		path := filepath.Join(r.folder, name)
		place, err := filepath.Abs(filepath.Join(root, "migrations/outbox", name))
		if err != nil {
			return err
		}
		overlay[place] = path
		const form = "%s;\nupdate public.signalbox_outbox_version set serves = %d;\n---- create above / drop below ----\n%s;\n"
		return os.WriteFile(path, fmt.Appendf(nil, form, sql, serves, undo), 0o600)
	}
	for _, table := range tables {
		if err := add(table, "alter table outbox."+table+" add column upgraded text not null default 'yes'", "alter table outbox."+table+" drop column upgraded", r.oldest); err != nil {
			return nil, err
		}
	}
	if err := add("more", `
create table outbox.more (id bigint primary key generated always as identity, event_id bigint not null);
create function outbox.note_more() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger note_more before insert on outbox.deliveries for each row execute function outbox.note_more();
create index more_published on outbox.events (published_at)`, "drop index outbox.more_published; drop function outbox.note_more cascade; drop table outbox.more", r.oldest); err != nil {
		return nil, err
	}
	r.added = version
	if r.next, err = r.buildToday("next", overlay, "outbox", "producer", "worker"); err != nil {
		return nil, err
	}
	if err := add("last", "drop table outbox.more cascade", "create table outbox.more ()", r.added); err != nil {
		return nil, err
	}
	r.raised = version
	r.after, err = r.buildToday("after", overlay, "outbox")
	return r, err
})

// buildOld builds what the pinned commit has.
func (r *releases) buildOld() error {
	source := filepath.Join(r.folder, "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		return err
	}
	archive, err := git("archive", pinned)
	if err != nil {
		return err
	}
	untar := exec.Command("tar", "-x", "-C", source) //nolint:gosec // our own arguments
	untar.Stdin = bytes.NewReader(archive)
	if out, err := untar.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(source, "migrations/outbox/[0-9]*.sql"))
	if err != nil {
		return err
	}
	r.oldest = int32(len(found)) //nolint:gosec // a few
	r.old = filepath.Join(r.folder, "old")
	return compile(source, r.old, "./cmd/outbox", "./cmd/producer", "./cmd/worker")
}

// buildToday builds programs of this tree, with more migrations.
func (r *releases) buildToday(name string, migrations map[string]string, programs ...string) (folder string, err error) {
	text, err := json.Marshal(map[string]any{"Replace": migrations})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(r.folder, name+".json")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return "", err
	}
	args := []string{"-overlay", overlay}
	for _, program := range programs {
		args = append(args, "./cmd/"+program)
	}
	folder = filepath.Join(r.folder, name)
	return folder, compile(root, folder, args...)
}

func compile(source, folder string, args ...string) error {
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	cmd := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", folder}, args...)...) //nolint:gosec // our own arguments
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

func built(t *testing.T) *releases {
	t.Helper()
	stay(t)
	r, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A place is where programs work: a database.
type place struct{ url string }

func (p place) try(t *testing.T, program string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+p.url)
	var out, says bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &says
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return out.String(), says.String(), cmd.ProcessState.ExitCode()
}

// do runs the command outbox of a release, which has to succeed, and returns what it prints.
func (p place) do(t *testing.T, release string, args ...string) string {
	t.Helper()
	stdout, stderr, code := p.try(t, filepath.Join(release, "outbox"), args...)
	if code != 0 {
		t.Fatalf("outbox %v ended with %d: %s%s", args, code, stdout, stderr)
	}
	return stdout
}

// refused runs programs of a release, each of which has to end with an error of one line.
func (p place) refused(t *testing.T, release, want string) {
	t.Helper()
	for _, command := range [][]string{
		{"outbox", "status"},
		{"worker", "--subscription", "log"},
		{"producer", "--listen", "127.0.0.1:0"},
	} {
		stdout, stderr, code := p.try(t, filepath.Join(release, command[0]), command[1:]...)
		line := strings.TrimSuffix(stderr, "\n")
		if code != 1 || stdout != "" || strings.Contains(line, "\n") || !strings.HasPrefix(line, command[0]+": "+want) {
			t.Errorf("%v ended with %d and %q, want 1 and a line %q", command, code, stdout+stderr, want)
		}
		t.Log(line)
	}
}
