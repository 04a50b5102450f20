package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// ErrUnknownFeature is wrapped by errors about a feature that is not known: to this version, or to a worker of an outbox that uses it, which
// has to be upgraded.
var ErrUnknownFeature = engine.ErrUnknownFeature

// A FeatureError says that something cannot be used yet, because there are older workers that would break it.
type FeatureError struct {
	Feature string
	Workers []string // names of those that do not know it
}

func (e *FeatureError) Error() string { return (*engine.FeatureError)(e).Error() }

// useFeature begins to use a feature, or returns a *FeatureError.
func useFeature(ctx context.Context, tx pgx.Tx, name string) error {
	err := engine.UseFeature(ctx, tx, name)
	if older := new(engine.FeatureError); errors.As(err, &older) {
		return (*FeatureError)(older)
	}
	return err
}

// A FeatureRow is something that older workers would break: see docs/versions.md.
type FeatureRow struct {
	Name      string     `json:"name"`
	UsedSince *time.Time `json:"used_since"` // nil while it is not used
	Unknown   []string   `json:"unknown"`    // the names of workers that do not know it
}

// ListFeatures returns the features that this version knows or the outbox uses, by name. Safe for concurrent use as far as db is.
func ListFeatures(ctx context.Context, db outbox.DB) ([]FeatureRow, error) {
	list, err := engine.ListFeatures(ctx, db)
	rows := make([]FeatureRow, len(list))
	for i, f := range list {
		rows[i] = FeatureRow(f)
	}
	return rows, err
}

// DropFeature gives a feature up, so that older workers may join again, for a rollback. It takes back what they would not understand:
// of "topics", changes that wait. Used again, the feature has to be known by all workers again. It returns
// ErrUnknownFeature for one that this version does not know. Safe for concurrent use as far as db is.
func DropFeature(ctx context.Context, db outbox.Database, name string) error {
	if err := engine.DropFeature(ctx, db, name); err != nil {
		return fmt.Errorf("drop feature: %w", err)
	}
	return nil
}
