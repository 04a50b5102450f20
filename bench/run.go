package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/scenarios"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/embeddedpg"
)

// input is where a worker process hears from its parent.
var input io.Reader = os.Stdin

const description = `Measures Signalbox, and other ways to deliver events from PostgreSQL, in turns on one server that it starts, with
fsync and synchronous_commit on.

	bench --scenarios 3 --systems river        # one scenario, Signalbox against River
	bench --scenarios 2 --duration 30s         # latency, each state for 30 s
	bench                                      # everything: three to four hours

Results go into the folder of --out: results.md to read, results.json, and a picture for each scenario. Nothing else should run on the
machine meanwhile; the report says how much did. Interrupted, it reports what it has.

The scenarios:

`

type flags struct {
	Scenarios []int         `help:"Numbers of the scenarios to run. Default: all."`
	Systems   []string      `help:"Whom to compare with Signalbox, by the beginnings of their names: ${systems}. Default: all."`
	Events    int           `help:"Events of a backlog. Slow systems get fewer." default:"1000000"`
	Rounds    int           `help:"How often each measurement is repeated." default:"3"`
	Duration  time.Duration `help:"How long a steady state is measured; publishing is for a third of it." default:"30s"`
	Held      time.Duration `help:"How long scenario 6 holds a snapshot." default:"10m"`
	Kills     int           `help:"How often scenario 8 kills a worker of each kind." default:"20"`
	Out       string        `help:"Folder for the results." default:"results"`
	JSON      bool          `help:"Print the results as JSON, not as Markdown."`
}

// Run measures, or is a worker process of a measurement.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == scenarios.WorkerRole {
		var child scenarios.Child
		if _, err := cli.Parse("bench worker", "A worker process of a measurement.", &child, args[1:], stdout); err != nil {
			return err
		}
		return child.Run(ctx, input, stdout)
	}
	var f flags
	if _, err := cli.Parse("bench", description+"\t"+strings.Join(scenarios.List(), "\n\t"), &f, args, stdout, variables()); err != nil {
		return err
	}
	return f.run(ctx, stdout, stderr)
}

// serverSettings are those of a small machine that is PostgreSQL's, and durable.
var serverSettings = map[string]string{
	"shared_buffers":     "1GB",
	"max_wal_size":       "4GB",
	"checkpoint_timeout": "15min",
	"max_connections":    "300",
	"fsync":              "on",
	"synchronous_commit": "on",
}

func (c *flags) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := c.check(); err != nil {
		return err
	}
	chosen, err := systems.Choose(c.Systems)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	logf := func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	server, err := startServer(ctx, logf)
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop() }()
	began := time.Now()
	result := &report.Result{Systems: describe(chosen)}
	if result.Meta, err = meta(ctx, server.URL("postgres")); err != nil {
		return err
	}
	result.Meta.Options = map[string]string{
		"events": strconv.Itoa(c.Events), "rounds": strconv.Itoa(c.Rounds), "duration": c.Duration.String(),
		"held": c.Held.String(), "kills": strconv.Itoa(c.Kills),
	}
	err = scenarios.Run(ctx, scenarios.Config{
		Server: server, Systems: chosen, Events: c.Events, Rounds: c.Rounds, Duration: c.Duration, Held: c.Held, Kills: c.Kills,
		Progress: logf,
	}, c.Scenarios, result)
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	result.Meta.Took = time.Since(began)
	if err := errors.Join(result.Check(), result.Write(c.Out)); err != nil {
		return err
	}
	logf("the results are in %s", c.Out)
	if c.JSON {
		return errors.Join(result.JSON(stdout), err)
	}
	return errors.Join(result.Markdown(stdout), err)
}

func (c *flags) check() error {
	if len(c.Scenarios) == 0 {
		c.Scenarios = scenarios.Numbers()
	}
	switch {
	case c.Events < 1000:
		return &cli.UsageError{Err: errors.New("--events must be at least 1000")}
	case c.Rounds < 1:
		return &cli.UsageError{Err: errors.New("--rounds must be at least 1")}
	case c.Duration < 100*time.Millisecond:
		return &cli.UsageError{Err: errors.New("--duration must be at least 100ms")}
	case c.Held < time.Second:
		return &cli.UsageError{Err: errors.New("--held must be at least 1s")}
	case c.Kills < 1:
		return &cli.UsageError{Err: errors.New("--kills must be at least 1")}
	}
	if err := scenarios.CheckNumbers(c.Scenarios); err != nil {
		return &cli.UsageError{Err: err}
	}
	return nil
}

// startServer prefers one that counts statements, which scenario 7 asks for; the module is silent elsewhere.
func startServer(ctx context.Context, logf func(string, ...any)) (*embeddedpg.Server, error) {
	settings := map[string]string{"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track": "none"}
	for name, value := range serverSettings {
		settings[name] = value
	}
	server, err := embeddedpg.Start(ctx, embeddedpg.Config{Logf: logf, Settings: settings})
	if err == nil || ctx.Err() != nil {
		return server, err
	}
	return embeddedpg.Start(ctx, embeddedpg.Config{Logf: logf, Settings: serverSettings})
}
