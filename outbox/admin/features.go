package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

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
// outbox.ErrUnknownFeature for one that this version does not know. Safe for concurrent use as far as db is.
func DropFeature(ctx context.Context, db outbox.Database, name string) error {
	if err := engine.DropFeature(ctx, db, name); err != nil {
		return fmt.Errorf("drop feature: %w", err)
	}
	return nil
}
