package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

type featuresCommands struct {
	List featuresListCommand `cmd:"" help:"List features: what older workers would break."`
	Drop featuresDropCommand `cmd:"" help:"Stop using a feature, so that older workers may join again."`
}

type featuresListCommand struct {
	asJSON
	cli.Database
}

// Help is what "outbox features list --help" explains.
func (*featuresListCommand) Help() string {
	return `Lists features: what older workers would break. A feature is used once all workers know it. From then on, older workers are refused.

	outbox features list`
}

func (l *featuresListCommand) Run(ctx context.Context, c *console) error {
	pool, err := open(ctx, l.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	list, err := admin.ListFeatures(ctx, pool)
	if err != nil {
		return err
	}
	if l.JSON {
		return c.print(map[string]any{"features": list})
	}
	var b strings.Builder
	table(&b, "FEATURE\tUSED SINCE\tNOT KNOWN BY", list, func(f admin.Feature) []string {
		since, unknown := "-", "-"
		if f.UsedSince != nil {
			since = clock(*f.UsedSince)
		}
		if len(f.Unknown) > 0 {
			unknown = plain.Quote(strings.Join(f.Unknown, " "))
		}
		return []string{plain.Quote(f.Name), since, unknown}
	})
	return c.write(b.String())
}

type featuresDropCommand struct {
	Name string `arg:"" help:"The feature's name."`
	confirmation
	asJSON
	cli.Database
}

// Help is what "outbox features drop --help" explains.
func (*featuresDropCommand) Help() string {
	return `Stops using a feature, so that older workers may join again after a rollback. Reverts what they would not understand. Asks for
confirmation unless --yes is given.

	outbox features drop topics`
}

func (d *featuresDropCommand) Run(ctx context.Context, c *console) error {
	pool, err := open(ctx, d.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := c.confirm(ctx, d.confirmation, fmt.Sprintf("Stop using the feature %q", d.Name)); err != nil {
		return err
	}
	if err := admin.DropFeature(ctx, pool, d.Name); err != nil {
		return err
	}
	if d.JSON {
		return c.print(map[string]any{"name": d.Name, "dropped": true})
	}
	return c.write(fmt.Sprintf("%s is not used any more: older workers may join.\n", plain.Quote(d.Name)))
}
