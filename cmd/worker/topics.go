package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/producer"
)

var (
	// defaultTopics are those of a subscription that is created without any: all signals.
	defaultTopics = []string{"signals.>"}
	// rollupTopics are all that the handler rollup can count. A subscription with others is left to others.
	rollupTopics = []string{producer.TopicCreated}
)

// topicsOf returns the topics to register: those asked for, or the default where the subscription has yet to be created.
// An existing one keeps its own.
func topicsOf(ctx context.Context, database *pgxpool.Pool, flags flags) ([]string, error) {
	asked := flags.Topics
	switch {
	case flags.Handler == "rollup" && len(asked) > 0 && !slices.Equal(asked, rollupTopics):
		return nil, &cli.UsageError{Err: fmt.Errorf("--handler rollup has the topic %s: leave out --topics", producer.TopicCreated)}
	case flags.Handler == "rollup":
		return rollupTopics, nil
	case len(asked) > 0:
		return asked, nil
	}
	_, err := engine.Subscribe(ctx, flags.Outbox.DB(database), flags.Subscription, nil, outbox.FromBeginning)
	if errors.Is(err, outbox.ErrUnknownSubscription) {
		return defaultTopics, nil
	}
	return nil, err
}
