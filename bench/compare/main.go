// Command compare measures Signalbox beside other ways to deliver events from PostgreSQL, in turns on one server. Run it with --help.
package main

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/signalbox-go/signalbox/bench/compare/peers"
	"github.com/signalbox-go/signalbox/bench/program"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/internal/cli"
)

func main() {
	cli.Main("compare", Run)
}

const description = `Measures Signalbox, and other ways to deliver events from PostgreSQL, in turns on one server that it starts, with
fsync and synchronous_commit on.

	compare --scenarios 3 --systems river        # one scenario, Signalbox against River
	compare --scenarios 2 --duration 30s         # latency, each state for 30 s
	compare                                      # everything: three to four hours

Results go into the folder of --out: results.md to read, results.json, and a picture for each scenario. Nothing else should run on the
machine meanwhile; the report says how much did. Interrupted, it reports what it has.

The scenarios, whose numbers those of command self continue:

`

type flags struct {
	program.Flags
	Systems []string      `help:"Whom to compare with Signalbox, by the beginnings of their names: ${systems}. Default: all."`
	Held    time.Duration `help:"How long scenario 6 holds a snapshot." default:"10m"`
}

// scenarios returns those of this command, by number.
func scenarios(held time.Duration) stage.Scenarios {
	return stage.Scenarios{publishCost(), steadyState(), drain(), bulk(), fanOut(), heldSnapshot(held), idle(), scale(), memory(), subscriptions()}
}

// Run measures, or is a worker process of a measurement.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	all := peers.All()
	if is, err := program.Worker(ctx, args, all, os.Stdin, stdout); is {
		return err
	}
	var f flags
	names := kong.Vars{"systems": strings.Join(systems.Names(all[1:]), ", ")}
	if _, err := cli.Parse("compare", description+"\t"+strings.Join(scenarios(0).Titles(), "\n\t"), &f, args, stdout, names); err != nil {
		return err
	}
	if f.Held < time.Second {
		return program.Usage("--held must be at least 1s")
	}
	chosen, err := peers.Choose(f.Systems)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	plan := &program.Plan{Scenarios: scenarios(f.Held), Systems: chosen, Options: map[string]string{"held": f.Held.String()}, Command: program.Command("compare", args)}
	return f.Run(ctx, plan, stdout, stderr)
}
