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

	"github.com/signalbox-go/signalbox/internal/cli"
)

const description = `Tries to make the outbox lose, repeat or reorder events.

	go run ./proof/chaos                       # a minute
	go run ./proof/chaos --for 10m --seed 42
	go run ./proof/chaos --for 1h | tail -1 | jq .
	go run ./proof/chaos --for 5m --only 'connection silent for longer than the lease'

It starts a PostgreSQL, the producer and worker processes, publishes as fast as --rate, and has faults hit all of them, alone and together:
kill -9 and SIGSTOP, lost and half-open connections, held snapshots and writers, handlers that kill their process, hot keys, late giants,
dead endpoints and outages, restarts. The seed decides
which faults come when; the story on standard error has them. Clients keep a ledger of what was committed. In the end it is compared to what
handlers have reported.

The last line of standard output is the verdict, as a JSON object:

	verdict                  passed, or failed and why (failures)
	committed                events that were committed; each subscription has to see those of its topics
	lost                     committed, and neither handled nor kept as dead or skipped
	phantom                  handled, or in the log, and never committed
	duplicates               handled again; at most duplicates_bound, what was unrecorded when a worker's session ended
	order_violations         handled before an earlier event of the same key
	exactly_once_mismatches  effects of a transactional handler that are missing, or there twice
	longest_stall_ms         the longest time from a commit to the first call of a handler; the faults around it
	drained_ms               from the end of the last fault until nothing was left to do; more than drained_limit_ms fails

Of an event that something is wrong with, standard error has the history. It exits with 0 if the verdict is passed, with 1 if it is failed,
and with 2 if there is none.`

type flags struct {
	For  time.Duration `default:"1m" help:"How long to inject faults, at least 10s."`
	Seed uint64        `placeholder:"N" help:"Which faults, and when. By default another one each time."`
	Rate float64       `default:"150" help:"Transactions a second, with five events each on average."`
	Only string        `placeholder:"KIND" help:"Inject only faults of this kind, one after the other. A name that does not exist lists them."`
	Skew time.Duration `default:"0s" help:"Have the clocks of some workers wrong by this much, such as 37m or -2h. Takes a minute to build."`
}

func main() {
	if workerRole.Given() {
		os.Exit(runWorker())
	}
	// The first signal cuts the run short, and it is judged as it is; a second one ends it at once.
	v, err := chaos(cli.Context("chaos"), os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, cli.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "chaos: %v\n", err)
		os.Exit(2)
	case v.Verdict != "passed":
		os.Exit(1)
	}
}

// chaos runs with arguments, and writes the verdict.
func chaos(ctx context.Context, args []string, stdout, stderr io.Writer) (*verdict, error) {
	var flags flags
	if _, err := cli.Parse("chaos", description, &flags, args, stdout); err != nil {
		return nil, err
	}
	switch {
	case flags.For < 10*time.Second:
		return nil, fmt.Errorf("--for is %v, at least 10s is needed", flags.For)
	case flags.Rate <= 0:
		return nil, fmt.Errorf("--rate is %v, more than 0 is needed", flags.Rate)
	case flags.Only != "" && !slices.ContainsFunc(kinds, func(k kind) bool { return k.name == flags.Only }):
		return nil, fmt.Errorf("--only is %q, must be one of: %s", flags.Only, strings.Join(kindNames(), ", "))
	case flags.Seed == 0:
		flags.Seed = uint64(rand.Uint32())
	}
	v, err := run(ctx, config{
		length: flags.For, seed: flags.Seed, rate: flags.Rate, lease: 10 * time.Second, only: flags.Only, drainLimit: 5 * time.Second, skew: flags.Skew, out: stderr,
	})
	if err != nil {
		return nil, err
	}
	return v, json.NewEncoder(stdout).Encode(v)
}
