package admin_test

import (
	"context"
	"errors"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// Every function that names a subscription tells an unknown one from one for which there is nothing.
func TestUnknownSubscription(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t).Pool
	if _, err := admin.CreateSubscription(t.Context(), db, "mails", []string{">"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	one := func(name string) admin.DeliveryFilter { return admin.DeliveryFilter{Subscription: name} }
	for what, call := range map[string]func(ctx context.Context, name string) error{
		"get": func(ctx context.Context, name string) error {
			_, err := admin.GetSubscription(ctx, db, name)
			return err
		},
		"pause":  func(ctx context.Context, name string) error { return admin.Pause(ctx, db, name) },
		"resume": func(ctx context.Context, name string) error { return admin.Resume(ctx, db, name) },
		"lanes":  func(ctx context.Context, name string) error { _, err := admin.ListLanes(ctx, db, name); return err },
		"keys": func(ctx context.Context, name string) error {
			_, err := admin.ListBlockedKeys(ctx, db, name, 1)
			return err
		},
		"held keys": func(ctx context.Context, name string) error {
			_, err := admin.ListHeldKeys(ctx, db, name, admin.ListOptions{})
			return err
		},
		"list": func(ctx context.Context, name string) error {
			_, err := admin.ListDeliveries(ctx, db, one(name), admin.ListOptions{})
			return err
		},
		"groups": func(ctx context.Context, name string) error {
			_, err := admin.GroupDeliveries(ctx, db, one(name))
			return err
		},
		"count": func(ctx context.Context, name string) error {
			_, err := admin.CountDeliveries(ctx, db, one(name))
			return err
		},
		"count to": func(ctx context.Context, name string) error {
			_, err := admin.CountDeliveriesUpTo(ctx, db, one(name), 1)
			return err
		},
		"retry": func(ctx context.Context, name string) error {
			_, err := admin.RetryDeliveries(ctx, db, one(name))
			return err
		},
		"skip": func(ctx context.Context, name string) error {
			_, err := admin.SkipDeliveries(ctx, db, one(name), "r")
			return err
		},
		"discard": func(ctx context.Context, name string) error {
			_, err := admin.DiscardDeliveries(ctx, db, one(name))
			return err
		},
		"in chunks": func(ctx context.Context, name string) error {
			_, err := admin.DecideInChunks(ctx, db, one(name), admin.RetryDeliveries)
			return err
		},
		"replay": func(ctx context.Context, name string) error {
			_, err := admin.Replay(ctx, db, name, admin.EventFilter{}, admin.ReplayOptions{})
			return err
		},
		"to replay": func(ctx context.Context, name string) error {
			_, err := admin.CountReplay(ctx, db, name, admin.EventFilter{})
			return err
		},
		"rewind": func(ctx context.Context, name string) error {
			_, err := admin.Rewind(ctx, db, name, outbox.FromBeginning)
			return err
		},
		"to rewind": func(ctx context.Context, name string) error {
			_, err := admin.CountRewind(ctx, db, name, outbox.FromBeginning)
			return err
		},
	} {
		if err := call(t.Context(), "mails"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := call(t.Context(), "nobody"); !errors.Is(err, outbox.ErrUnknownSubscription) {
			t.Errorf("%s of an unknown one: %v", what, err)
		}
	}
	if err := admin.DeleteSubscription(t.Context(), db, "nobody", true); !errors.Is(err, outbox.ErrUnknownSubscription) {
		t.Errorf("delete an unknown one: %v", err)
	}
}

func TestCreateSubscription(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t).Pool
	create := func(name string, topics []string, start outbox.Position) (bool, error) {
		return admin.CreateSubscription(t.Context(), db, name, topics, start)
	}
	for _, want := range []bool{true, false} {
		if created, err := create("mails", []string{"a", "b"}, outbox.FromNow); err != nil || created != want {
			t.Errorf("created: %v, %v, want %v", created, err, want)
		}
	}
	if s, err := admin.GetSubscription(t.Context(), db, "mails"); err != nil || s.Name != "mails" || len(s.Topics) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	var others *outbox.TopicsError
	if _, err := create("mails", []string{"c"}, outbox.FromNow); !errors.As(err, &others) {
		t.Errorf("with other topics: %v", err)
	}
	if _, err := create("mails", nil, outbox.FromNow); !errors.Is(err, outbox.ErrInvalidSubscription) {
		t.Errorf("without topics: %v", err)
	}
	if _, err := create("", []string{"a"}, outbox.FromNow); !errors.Is(err, outbox.ErrInvalidSubscription) {
		t.Errorf("without a name: %v", err)
	}
	if _, err := create("later", []string{"a"}, outbox.FromID(999)); !errors.Is(err, outbox.ErrInvalidPosition) {
		t.Errorf("beyond the log: %v", err)
	}
}
