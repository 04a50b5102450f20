package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/outbox"
)

// A feature is something that older workers would break, such as topics that change in place: they would read on with the old ones. It
// is used from the first time on that all workers know it, and from then on, the database refuses workers that do not.
const (
	// FeatureTopics is that the topics of a subscription change in place.
	FeatureTopics = "topics"
)

// Features are those that this version knows. Workers write them into their rows.
var Features = []string{FeatureTopics}

// lockFeatures keeps joining apart from beginning to use a feature: shared by those who join (trigger keep_features), exclusive here.
const lockFeatures = 4

// unknownFeatureCode is the SQLSTATE that outbox.keep_features raises.
const unknownFeatureCode = "OB003"

// unknownFeature turns what outbox.keep_features raises into ErrUnknownFeature.
func unknownFeature(err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == unknownFeatureCode {
		return fmt.Errorf("%w: %s", ErrUnknownFeature, pgErr.Message)
	}
	return err
}

// UseFeature begins to use a feature, from the commit of tx on, if it is not used yet. It returns a *FeatureError while there are
// workers that do not know it, dead ones included that are yet to be evicted.
func UseFeature(ctx context.Context, tx pgx.Tx, name string) error {
	var used bool
	if err := tx.QueryRow(ctx, `select exists (select from outbox.features f where f.name = $1)`, name).Scan(&used); err != nil || used {
		return err
	}
	if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(`+LockClass+`, $1::integer)`, lockFeatures); err != nil {
		return err
	}
	// In a later statement: who joined before is there, and who joins later finds the feature.
	rows, _ := tx.Query(ctx, `select w.name from outbox.workers w where $1 <> all (w.knows) order by w.name`, name)
	workers, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if len(workers) > 0 {
		return &FeatureError{Feature: name, Workers: workers}
	}
	_, err = tx.Exec(ctx, `insert into outbox.features (name) values ($1) on conflict do nothing`, name)
	return err
}

// A Feature is a feature that is used or known here.
type Feature struct {
	Name      string
	UsedSince *time.Time // nil while it is not used
	Unknown   []string   // the names of workers that do not know it
}

// ListFeatures returns what this version knows and what the database uses, by name.
func ListFeatures(ctx context.Context, db outbox.DB) ([]Feature, error) {
	rows, _ := db.Query(ctx, `
		select n.name, f.used_since, array(select w.name from outbox.workers w where n.name <> all (w.knows) order by w.name)
		from (select unnest($1::text[]) as name union select f.name from outbox.features f) n
		left join outbox.features f on f.name = n.name
		order by n.name`, Features)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Feature])
	if err != nil {
		return nil, fmt.Errorf("list features: %w", err)
	}
	return list, nil
}

// DropFeature has older workers join again: it checks that nothing is left that they do not understand, and drains what can be.
func DropFeature(ctx context.Context, db outbox.Database, name string) error {
	if !slices.Contains(Features, name) {
		return fmt.Errorf("%w %q: this version knows %v", ErrUnknownFeature, name, Features)
	}
	return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(`+LockClass+`, $1::integer)`, lockFeatures); err != nil {
			return err
		}
		// Of FeatureTopics, a change that waits. Topics that have changed are like any others.
		if _, err := tx.Exec(ctx, `update outbox.subscriptions s set topics_to = null, backfill_after = null where s.topics_to is not null`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `delete from outbox.features f where f.name = $1`, name)
		return err
	})
}
