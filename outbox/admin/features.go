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

// ErrUnknownFeature is wrapped by errors about a feature that this version does not know. A worker returns it for a feature that the
// outbox uses: upgrade the worker.
var ErrUnknownFeature = engine.ErrUnknownFeature

// A FeatureError says that a feature cannot be used yet, because older workers would break it: upgrade or stop them first.
type FeatureError struct {
	Feature string
	Workers []string // names of the workers that do not know it
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

// A Feature is something that older workers would break. It is used once all workers know it: see docs/versions.md.
type Feature struct {
	Name      string     `json:"name"`
	UsedSince *time.Time `json:"used_since"` // nil while it is not used
	Unknown   []string   `json:"unknown"`    // the names of workers that do not know it
}

// ListFeatures returns the features that this version knows or the outbox uses, by name. Safe for concurrent use as far as db is.
func ListFeatures(ctx context.Context, db outbox.DB) ([]Feature, error) {
	list, err := engine.ListFeatures(ctx, db)
	rows := make([]Feature, len(list))
	for i, f := range list {
		rows[i] = Feature(f)
	}
	return rows, err
}

// DropFeature stops using a feature, so that older workers may join again after a rollback. It reverts what they would not understand: for
// "topics", changes that wait. The next use again requires that all workers know the feature. It returns ErrUnknownFeature for a
// feature that this version does not know. Safe for concurrent use as far as db is.
func DropFeature(ctx context.Context, db outbox.Database, name string) error {
	if err := engine.DropFeature(ctx, db, name); err != nil {
		return fmt.Errorf("drop feature: %w", err)
	}
	return nil
}
