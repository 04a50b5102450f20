package upgrade_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/tern/v2/migrate"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
)

// TestReleases has the pinned programs and today's work beside each other while the schema becomes newer, under traffic and with restarts
// and kills, until it does not serve the pinned ones any more.
func TestReleases(t *testing.T) {
	t.Parallel()
	r, db := built(t), pgtest.NewEmpty(t)
	at, l := place{db.URL}, &ledger{acknowledged: map[int64]bool{}}
	log := func(release string) *running {
		return at.start(t, l, release, "worker", "--subscription", "log", "--topics", "signals.>")
	}
	rollup := func(release string) *running {
		return at.start(t, l, release, "worker", "--subscription", "rollup", "--handler", "rollup")
	}
	producer := func(release string) *running {
		return at.start(t, l, release, "producer", "--listen", "127.0.0.1:0")
	}
	version := func(want int32) {
		t.Helper()
		if have, err := migrations.Outbox.Version(t.Context(), db.Pool); err != nil || have != want {
			t.Fatalf("the schema is at version %d, want %d: %v", have, want, err)
		}
	}
	at.do(t, r.old, "migrate")
	version(r.oldest)

	// Old programs on the old schema, and new ones beside them, before the migration.
	f := &traffic{ledger: l}
	oldProducer, newProducer := producer(r.old), producer(r.next)
	f.over(t, oldProducer, newProducer)
	old1, old2, oldRollup := log(r.old), log(r.old), rollup(r.old)
	publishing := f.run(t)
	works(t, old1, old2)
	new1 := log(r.next)
	works(t, old1, old2, new1)
	f.over(t, newProducer)
	f.serves(t)

	// The schema becomes newer under all of them.
	f.over(t, oldProducer, newProducer)
	if out := at.do(t, r.next, "migrate"); !strings.Contains(out, fmt.Sprintf("outbox: from version %d to %d\n", r.oldest, r.added)) {
		t.Errorf("migrate says %q", out)
	}
	version(r.added)
	works(t, old1, old2, new1)
	f.over(t, oldProducer)
	f.serves(t)

	// Each restarts there: in good order, and killed.
	new1.stop(t)
	old1.stop(t)
	old2.kill()
	oldRollup.kill()
	old1, old2, oldRollup = log(r.old), log(r.old), rollup(r.old)
	works(t, old1, old2)
	oldProducer.stop(t)
	oldProducer = producer(r.old)
	f.over(t, oldProducer)
	f.serves(t)
	if out := at.do(t, r.old, "migrate"); !strings.Contains(out, "outbox: up to date\n") {
		t.Errorf("the old migrate says %q", out)
	}
	at.do(t, r.old, "status")
	at.do(t, r.old, "subscriptions", "pause", "log")
	at.do(t, r.old, "subscriptions", "resume", "log")
	if out := at.do(t, r.next, "doctor"); !strings.Contains(out, fmt.Sprintf("version %d, serves programs from version %d on", r.added, r.oldest)) {
		t.Errorf("doctor says %q", out)
	}

	// A roll-out, which is killed in the middle and rolled back, and the next one.
	new1, new2 := log(r.next), rollup(r.next)
	oldRollup.stop(t)
	works(t, new1, old1)
	new1.kill()
	new2.kill()
	oldRollup = rollup(r.old)
	works(t, old1, old2)
	new1, new2 = log(r.next), rollup(r.next)
	newProducer.kill()
	newProducer = producer(r.next)
	f.over(t, oldProducer, newProducer)
	works(t, new1, old1)

	// The schema stops serving the old ones. Those that run are stopped before, as the policy says.
	f.over(t, newProducer)
	for _, p := range []*running{oldProducer, old1, old2, oldRollup} {
		p.stop(t)
	}
	at.do(t, r.after, "migrate")
	version(r.raised)
	at.refused(t, r.old, fmt.Sprintf("outbox schema is at version %d, newer than this binary's %d, and serves binaries from version %d on: upgrade the binary",
		r.raised, r.oldest, r.added))
	if out, stderr, code := at.try(t, filepath.Join(r.old, "outbox"), "migrate"); code != 1 || !strings.Contains(stderr, "upgrade the binary") {
		t.Errorf("the old migrate ended with %d and %q", code, out+stderr)
	}
	new1.stop(t)
	new1 = log(r.next)
	works(t, new1)
	f.serves(t)

	publishing()
	l.settle(t, db.Pool)
	new1.stop(t)
	new2.stop(t)
	newProducer.stop(t)
}

// TestOlderSchemas has today's programs on every schema there ever was, with or without what they say.
func TestOlderSchemas(t *testing.T) {
	t.Parallel()
	r := built(t)
	set := migrations.Outbox
	if oldest := set.Oldest(); oldest > r.oldest {
		t.Errorf("today's programs need version %d, and the pinned commit has %d: they could not be deployed before they migrate", oldest, r.oldest)
	}
	for version := int32(1); version <= r.current; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewEmpty(t)
			m, err := migrate.NewMigrator(t.Context(), db.Conn(t), set.VersionTable())
			if err != nil {
				t.Fatal(err)
			}
			if err := m.LoadMigrations(set.Files()); err != nil {
				t.Fatal(err)
			}
			if err := m.MigrateTo(t.Context(), version); err != nil {
				t.Fatal(err)
			}
			at := place{db.URL}
			if version < set.Oldest() {
				at.refused(t, r.next, fmt.Sprintf(`outbox schema is at version %d, this binary needs %d to %d: run "outbox migrate"`, version, set.Oldest(), r.added))
			} else {
				at.do(t, r.next, "status")
			}
		})
	}
}
