package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/outbox"
)

// defaultTopics are those of a subscription that is created without any: all signals.
var defaultTopics = []string{"signals.>"}

// topicsOf returns the topics to register: those asked for, or the default where the subscription has yet to be created.
// An existing one keeps its own.
func topicsOf(ctx context.Context, database *pgxpool.Pool, name string, asked []string) ([]string, error) {
	if len(asked) > 0 {
		return asked, nil
	}
	_, err := outbox.Subscribe(ctx, database, name, nil, outbox.FromBeginning)
	if errors.Is(err, outbox.ErrUnknownSubscription) {
		return defaultTopics, nil
	}
	return nil, err
}
