package engine_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// joinOld registers a worker as a version would that has never heard of features.
func joinOld(t *testing.T, db *pgtest.DB) error {
	_, err := db.Pool.Exec(t.Context(), `insert into outbox.workers (name, direct, lease) values ('old', false, '1 hour')`)
	return err
}

// TestFeatures begins to use one once all workers know it, and refuses those that do not from then on, until it is dropped.
func TestFeatures(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, "a")
	enginetest.Member(t, db, s)
	if err := joinOld(t, db); err != nil {
		t.Fatal(err)
	}
	use := func() error {
		return pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error { return engine.UseFeature(t.Context(), tx, engine.FeatureTopics) })
	}
	var unknown *engine.FeatureError
	if err := use(); !errors.As(err, &unknown) || !slices.Equal(unknown.Workers, []string{"old"}) {
		t.Fatalf("got %v", err)
	}
	list, err := engine.ListFeatures(t.Context(), db.Pool)
	if err != nil || len(list) != 1 || list[0].UsedSince != nil || !slices.Equal(list[0].Unknown, []string{"old"}) {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := db.Pool.Exec(t.Context(), `delete from outbox.workers where name = 'old'`); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := use(); err != nil {
			t.Fatal(err)
		}
	}
	if err := joinOld(t, db); err == nil || !strings.Contains(err.Error(), "features that this worker does not know (topics): upgrade it") {
		t.Errorf("an old one joined: %v", err)
	}
	if _, err := db.Pool.Exec(t.Context(), `insert into outbox.features (name) values ('later')`); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Join(t.Context(), db.Conn(t), "new", true, time.Hour, []int32{s.ID}); !errors.Is(err, engine.ErrUnknownFeature) {
		t.Errorf("got %v", err)
	}
	if err := engine.DropFeature(t.Context(), db.Pool, "later"); !errors.Is(err, engine.ErrUnknownFeature) {
		t.Errorf("got %v", err)
	}
	if _, err := db.Pool.Exec(t.Context(), `delete from outbox.features where name = 'later'`); err != nil {
		t.Fatal(err)
	}
	request(t, db, nil, "a", "b")
	if err := engine.DropFeature(t.Context(), db.Pool, engine.FeatureTopics); err != nil {
		t.Fatal(err)
	}
	if done, err := engine.FinishTopics(t.Context(), db.Pool, "s"); err != nil || !done {
		t.Errorf("a change waits that older workers do not know: %v", err)
	}
	if err := joinOld(t, db); err != nil {
		t.Error(err)
	}
}

// TestFeaturesAreSeen has a worker join while a feature begins to be used: one of them comes first, and the other sees it.
func TestFeaturesAreSeen(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	joining, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := joining.Exec(t.Context(), `insert into outbox.workers (name, direct, lease) values ('old', false, '1 hour')`); err != nil {
		t.Fatal(err)
	}
	used := make(chan error, 1)
	go func() {
		used <- pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error { return engine.UseFeature(t.Context(), tx, engine.FeatureTopics) })
	}()
	for waits := false; !waits; {
		if err := db.Pool.QueryRow(t.Context(), `
			select exists (select from pg_locks l where l.locktype = 'advisory' and l.objid = 4 and not l.granted
			                and l.database = (select d.oid from pg_database d where d.datname = current_database()))`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	if err := joining.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var unknown *engine.FeatureError
	if err := <-used; !errors.As(err, &unknown) {
		t.Errorf("got %v", err)
	}
}
