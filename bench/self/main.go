// Command self measures Signalbox alone: what operators and handlers do, and what becomes of killed workers. Run it with --help.
package main

import (
	"context"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/signalbox-go/signalbox/bench/program"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/internal/cli"
)

func main() {
	cli.Main("self", Run)
}

const description = `Measures Signalbox, on a server that it starts, with fsync and synchronous_commit on, and compares it with nothing but the targets
that it sets itself: run it before and after a change.

	self --scenarios 12 --rounds 1 --duration 10s     # what operating costs a steady stream
	self --scenarios 14,15,16,17 --rounds 1 --scale 0.1 --duration 5s     # what a key or an outage does to others, in some minutes
	self                                              # everything

Results go into the folder of --out: results.md to read, results.json, and a picture for each scenario. Nothing else should run on the
machine meanwhile; the report says how much did. Interrupted, it reports what it has.

The scenarios, whose numbers continue those of command compare:

`

type flags struct {
	program.Flags
	Kills int     `help:"How often scenario 8 kills a worker of each kind." default:"20"`
	Scale float64 `help:"The part of the events and durations of scenarios 14 to 17, 19 and 20 to measure, to try them: 0.1 takes some minutes." default:"1"`
}

// scenarios returns those of this command, by number.
func scenarios(kills int, s scale) stage.Scenarios {
	return stage.Scenarios{takeover(kills), transactional(), operating(), pages(), keys(s), busy(s), outages(s), limits(s), growth(s), endpoints(s), neighbours()}
}

// Run measures, or is a worker process of a measurement.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	ours := []systems.System{systems.New()}
	if is, err := program.Worker(ctx, args, ours, os.Stdin, stdout); is {
		return err
	}
	var f flags
	if _, err := cli.Parse("self", description+"\t"+strings.Join(scenarios(0, 1).Titles(), "\n\t"), &f, args, stdout); err != nil {
		return err
	}
	if f.Kills < 1 {
		return program.Usage("--kills must be at least 1")
	}
	if !(f.Scale > 0 && f.Scale <= 1) { // nor is it NaN
		return program.Usage("--scale must be greater than 0, and at most 1")
	}
	plan := &program.Plan{
		Scenarios: scenarios(f.Kills, scale(f.Scale)), Systems: ours,
		Options: map[string]string{"kills": strconv.Itoa(f.Kills), "scale": strconv.FormatFloat(f.Scale, 'g', -1, 64)},
		Command: program.Command("self", args),
	}
	return f.Run(ctx, plan, stdout, stderr)
}
