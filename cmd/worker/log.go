package main

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/signalbox-go/signalbox/producer"
	"github.com/signalbox-go/signalbox/worker"
)

// logEvent returns the handler "log": a line for each event. Of a signal it has the fields, of anything else the bytes.
func logEvent(logger *slog.Logger) func(context.Context, *worker.Event[json.RawMessage]) error {
	return func(ctx context.Context, e *worker.Event[json.RawMessage]) error {
		attributes := []slog.Attr{slog.Int64("event_id", e.ID), slog.String("event_uid", e.UID), slog.String("topic", e.Topic)}
		var signal producer.Signal
		if e.Topic == producer.TopicCreated && json.Unmarshal(e.Payload, &signal) == nil {
			attributes = append(attributes, slog.String("name", signal.Name), slog.Float64("value", signal.Value), slog.Time("timestamp", signal.Timestamp))
		} else {
			attributes = append(attributes, slog.String("key", e.Key), slog.String("payload", string(e.Payload)))
		}
		logger.LogAttrs(ctx, slog.LevelInfo, "notification received", attributes...)
		return nil
	}
}
