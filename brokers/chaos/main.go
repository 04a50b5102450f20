package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/relay"
)

const description = `Tries to make a relay lose, make up or reorder messages.

	go run ./chaos                                  # a minute, with NATS
	go run ./chaos --sink kafka --for 10m --seed 42
	go run ./chaos --sink rabbitmq --for 5m | tail -1 | jq .
	go run ./chaos --only 'acknowledgements lost'

It starts a PostgreSQL, a broker and two relay processes, publishes as fast as --rate, and has faults hit them, alone and together: the
broker (or the receiver of webhooks) killed, frozen, full, or refusing; connections cut, half-open and refused, acknowledgements lost; messages that are too large; relays killed, frozen
(some for longer than their lease: they wake up as zombies) and restarted. The seed decides which faults come when; the story on standard error has
them. In the end, what was committed is compared with what the broker has stored.

The last line of standard output is the verdict, as a JSON object:

	verdict                passed, or failed and why (failures)
	committed              events that were committed
	lost                   committed, and neither stored nor, if it is too large, a dead letter
	phantom                stored, and never committed, or changed
	order_violations       stored for the first time before an earlier one of the same key
	duplicates             stored again; at most duplicates_bound, what was sent and not acknowledged, or not recorded when its relay was hit
	groundless_repeats     sent again although it was acknowledged and nothing had hit the relay, or stored more often than sent
	unexpected_dead        dead letters that are not too large; missing_dead: those that should be, and are not
	drained_ms             from the end of the last fault until nothing was left to do; more than drained_limit_ms fails

It exits with 0 if the verdict is passed, with 1 if it is failed, and with 2 if there is none, such as where the broker is not installed.`

type flags struct {
	Sink string        `default:"nats" help:"Where to send to: ${sinks}."`
	For  time.Duration `default:"1m" help:"How long to inject faults, at least 10s."`
	Seed uint64        `placeholder:"N" help:"Which faults, and when. By default another one each time."`
	Rate float64       `default:"100" help:"Transactions a second, with two events each on average."`
	Only string        `placeholder:"KIND" help:"Inject only faults of this kind, one after the other. A name that does not exist lists them."`
}

func main() {
	nats.Main()
	if receiverRole.Given() {
		os.Exit(runReceiver())
	}
	if relayRole.Given() {
		os.Exit(runRelay(func(s relay.Sink) relay.Sink { return s }))
	}
	// The first signal cuts the run short, and it is judged as it is; a second one ends it at once.
	v, err := chaos(cli.Context("chaos"), os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, cli.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "chaos: %v\n", err)
		os.Exit(2)
	case v.Verdict != passed:
		os.Exit(1)
	}
}

// chaos runs with arguments, and writes the verdict.
func chaos(ctx context.Context, args []string, stdout, stderr io.Writer) (*verdict, error) {
	var flags flags
	if _, err := cli.Parse("chaos", description, &flags, args, stdout, kong.Vars{"sinks": strings.Join(sinkNames(), ", ")}); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(places, func(p place) bool { return p.name == flags.Sink })
	switch {
	case i < 0:
		return nil, fmt.Errorf("--sink is %q, must be one of: %s", flags.Sink, strings.Join(sinkNames(), ", "))
	case flags.For < 10*time.Second:
		return nil, fmt.Errorf("--for is %v, at least 10s is needed", flags.For)
	case flags.Rate <= 0:
		return nil, fmt.Errorf("--rate is %v, more than 0 is needed", flags.Rate)
	case flags.Only != "" && !slices.Contains(kindNames(places[i].kinds()), flags.Only):
		return nil, fmt.Errorf("--only is %q, must be one of: %s", flags.Only, strings.Join(kindNames(places[i].kinds()), ", "))
	case flags.Seed == 0:
		flags.Seed = uint64(rand.Uint32())
	}
	v, err := run(ctx, config{place: places[i], length: flags.For, seed: flags.Seed, rate: flags.Rate, only: flags.Only, out: stderr})
	if err != nil {
		return nil, err
	}
	return v, json.NewEncoder(stdout).Encode(v)
}
