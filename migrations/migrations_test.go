package migrations_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
)

var sets = []migrations.Set{migrations.Outbox, migrations.Signals}

func TestUpAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	var running sync.WaitGroup
	for range 4 {
		conn := db.Conn(t)
		running.Go(func() {
			for _, set := range sets {
				if err := apply.Up(context.Background(), conn, set); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	for _, set := range sets {
		if err := set.Check(t.Context(), db.Pool); err != nil {
			t.Error(err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	conn := db.Conn(t)
	for _, set := range sets {
		if err := set.Check(t.Context(), db.Pool); !errors.Is(err, migrations.ErrMissing) {
			t.Errorf("%s: got %v, want ErrMissing", set, err)
		}
		if err := apply.Up(t.Context(), conn, set); err != nil {
			t.Fatal(err)
		}
		if err := set.Check(t.Context(), db.Pool); err != nil {
			t.Errorf("%s: %v", set, err)
		}
		if _, err := conn.Exec(t.Context(), "update public.signalbox_"+set.String()+"_version set version = version + 1"); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"Check": set.Check(t.Context(), db.Pool), "Up": apply.Up(t.Context(), conn, set)} {
			var version *migrations.VersionError
			if !errors.As(err, &version) || version.Have != version.Newest+1 || !version.Newer() || errors.Is(err, migrations.ErrMissing) {
				t.Errorf("%s of a newer %s: got %v", what, set, err)
			}
		}
	}
}

// The readers' proof depends on these, and nothing else would notice for a long time.
func TestLoadBearingFacts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var first string
	var cache int
	err := db.Pool.QueryRow(t.Context(), `
		select (select attname::text from pg_attribute where attrelid = 'outbox.events'::regclass and attnum > 0 and not attisdropped order by attnum limit 1),
		       (select seqcache from pg_sequence where seqrelid = 'outbox.events_id_seq'::regclass)`).Scan(&first, &cache)
	if err != nil {
		t.Fatal(err)
	}
	if first != "xid" {
		t.Errorf("the first column of outbox.events is %s: an event would have its id before its transaction has one", first)
	}
	if cache != 1 {
		t.Errorf("the sequence caches %d ids: sessions would hand out old ones late", cache)
	}
}

// TestEncoding migrates a database that is not UTF8: that is refused, in a sentence.
func TestEncoding(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	config := db.Conn(t).Config()
	admin := db.Conn(t)
	latin := config.Database + "_latin1"
	if _, err := admin.Exec(t.Context(), "create database "+latin+" encoding 'LATIN1' locale 'C' template template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn, err := pgx.ConnectConfig(context.Background(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(context.Background(), "drop database "+latin+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	there := config.Copy()
	there.Database = latin
	conn, err := pgx.ConnectConfig(t.Context(), there)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	err = apply.Up(t.Context(), conn, migrations.Outbox)
	if err == nil || !strings.Contains(err.Error(), "this database has the encoding LATIN1, and an outbox needs UTF8") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	if err := migrations.Outbox.Check(t.Context(), conn); !errors.Is(err, migrations.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
}
