package doctor

import (
	"context"

	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// Versions says which versions of programs and schema work together here.
type Versions struct {
	// Oldest and Newest are the versions of the schema that this program works with.
	Oldest int32 `json:"oldest"`
	Newest int32 `json:"newest"`
	// Schema is the database's version, and Serves the oldest one whose programs it serves.
	Schema   int32           `json:"schema"`
	Serves   int32           `json:"serves"`
	Features []admin.Feature `json:"features"`
}

func versionsOf(ctx context.Context, p *patient) (*Versions, error) {
	set := migrations.For(p.cfg.Outbox)
	v := &Versions{Oldest: set.Oldest()}
	var err error
	if v.Newest, err = set.Newest(); err == nil {
		v.Schema, v.Serves, err = set.Range(ctx, p.conn)
	}
	if err == nil {
		v.Features, err = admin.ListFeatures(ctx, p.conn)
	}
	return v, err
}
