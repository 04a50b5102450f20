// Command relay measures the sinks of the relay beside their clients, with real servers. Run it with --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/signalbox-go/signalbox/bench/program"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/brokers/outside"
	"github.com/signalbox-go/signalbox/internal/cli"
)

func main() {
	nats.Main()
	cli.Main("relay", Run)
}

const description = `Measures the relay: each sink beside the client that it uses, with the same messages and acknowledgements, in turns, on servers that it
starts. Of these, it leaves out those that this machine does not have, and names them.

	relay --sinks nats,kafka --rounds 1 --duration 5s     # two sinks, in less than two minutes
	relay --rounds 1 --duration 5s                        # all sinks, in less than six minutes
	relay                                                 # all sinks, as published

NATS comes with this program. Kafka needs Java and Maven (apt-get install default-jre-headless maven), RabbitMQ itself (rabbitmq-server).

Results go into the folder of --out: results.md to read, results.json, and a picture. Nothing else should run on the machine meanwhile; the
report says how much did, and which command repeats the run. Interrupted, it reports what it has.

The scenarios, whose numbers continue those of commands compare and self:

`

type flags struct {
	program.Flags
	Sinks []string `help:"Which sinks to measure: ${sinks}. Default: all."`
}

// Run measures.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var f flags
	names := kong.Vars{"sinks": strings.Join(sinkNames(), ", ")}
	if _, err := cli.Parse("relay", description+"\t"+strings.Join(scenarios(nil).Titles(), "\n\t"), &f, args, stdout, names); err != nil {
		return err
	}
	if len(f.Sinks) == 0 {
		f.Sinks = sinkNames()
	}
	for _, name := range f.Sinks {
		if !slices.Contains(sinkNames(), name) {
			return program.Usage(fmt.Sprintf("there is no sink %q: there are %s", name, strings.Join(sinkNames(), ", ")))
		}
	}
	if err := f.Check(scenarios(nil)); err != nil {
		return err
	}
	host := outside.New(ctx)
	defer func() { err = errors.Join(err, host.Close()) }()
	places, err := start(host, f.Sinks, stderr)
	if err != nil {
		return err
	}
	plan := &program.Plan{
		Scenarios: scenarios(places), Systems: []systems.System{systems.New()},
		Options: map[string]string{"sinks": strings.Join(f.Sinks, ",")}, Command: program.Command("relay", args),
	}
	for _, p := range places {
		if p.peer != nil {
			plan.Systems = append(plan.Systems, p.peer)
		}
	}
	return f.Run(ctx, plan, stdout, stderr)
}

// start starts the servers of sinks. What is missing on this machine is left out.
func start(host *outside.Host, names []string, stderr io.Writer) (places []*place, err error) {
	for _, k := range kinds {
		if !slices.Contains(names, k.name) {
			continue
		}
		fmt.Fprintf(stderr, "starting what %s sends to\n", k.name)
		p := &place{kind: k}
		switch err := host.Do(func(t testing.TB) { k.start(t, p) }); {
		case errors.Is(err, outside.ErrLacks):
			fmt.Fprintf(stderr, "%s is left out: %v\n", k.name, err)
		case err != nil:
			return nil, fmt.Errorf("start what %s sends to: %w", k.name, err)
		default:
			places = append(places, p)
		}
	}
	if len(places) == 0 {
		return nil, errors.New("there is nothing to measure: install a server, or choose --sinks nats, which comes with this program")
	}
	return places, nil
}

// scenarios returns those of this command, by number.
func scenarios(places []*place) stage.Scenarios { return stage.Scenarios{relaying(places)} }
