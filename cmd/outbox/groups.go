package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

type deliveriesGroupsCommand struct {
	deliveryFilter
	Limit int `env:"-" default:"20" help:"How many errors to list, 1 to 1000."`
	asJSON
	cli.Database
}

// Help is what "outbox deliveries groups --help" explains.
func (*deliveriesGroupsCommand) Help() string {
	return `Lists what failed by its error, the most frequent first: the first line of the last failure, how many have it, and the first and
the last event of them. It counts all that match, however many there are.

	outbox deliveries groups -s mails
	outbox deliveries groups -s mails --state retrying --since 1h
	outbox deliveries groups -s mails --json | jq -r '.groups[0].error'

Of one of them, "outbox deliveries retry -s mails --error '…'" has all tried again. The JSON object is {"groups": […],
"deliveries": how many match, "errors": how many different ones they have}.`
}

// deliveryGroups is what "outbox deliveries groups --json" prints.
type deliveryGroups struct {
	Groups     []admin.DeliveryGroup `json:"groups"`
	Deliveries int64                 `json:"deliveries"`
	Errors     int                   `json:"errors"`
}

func (g *deliveriesGroupsCommand) Run(ctx context.Context, c *console) error {
	if err := checkLimit(g.Limit); err != nil {
		return err
	}
	pool, err := open(ctx, g.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	found, err := admin.GroupDeliveries(ctx, pool, g.filter(everyState))
	if err != nil {
		return err
	}
	all := deliveryGroups{found.Groups[:min(len(found.Groups), g.Limit)], found.Deliveries, len(found.Groups)}
	switch {
	case g.JSON:
		return c.print(all)
	case all.Deliveries == 0:
		return c.write("No delivery matches.\n")
	}
	var b strings.Builder
	table(&b, "DELIVERIES\tFIRST\tLAST\tERROR", all.Groups, func(group admin.DeliveryGroup) []string {
		text := excerpt(group.Error, 120)
		if text == "" {
			text = "(never tried)"
		}
		return []string{number(group.Events), strconv.FormatInt(group.First, 10), strconv.FormatInt(group.Last, 10), text}
	})
	if more := all.Errors - len(all.Groups); more > 0 {
		fmt.Fprintf(&b, "\nAnd %s: --limit lists more\n", plural(int64(more), "other error", "other errors"))
	}
	return c.write(b.String())
}
