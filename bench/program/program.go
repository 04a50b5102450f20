// Package program is what the commands of this module have in common: their flags, the server that they measure on, the report, and
// the worker processes that they start.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/embeddedpg"
)

// Flags are those that each command has.
type Flags struct {
	Scenarios []int         `help:"Numbers of the scenarios to run. Default: all."`
	Events    int           `help:"Events of a backlog. Slow systems get fewer." default:"1000000"`
	Rounds    int           `help:"How often each measurement is repeated." default:"3"`
	Duration  time.Duration `help:"How long a steady state is measured; publishing is for a third of it." default:"30s"`
	Out       string        `help:"Folder for the results." default:"results"`
	JSON      bool          `help:"Print the results as JSON, not as Markdown."`
}

// A Plan is what a command measures.
type Plan struct {
	Scenarios stage.Scenarios
	Systems   []systems.System // Signalbox first
	Options   map[string]string
	Command   string // that repeats the run
}

// Command is what a shell runs to have a command measure again, in the folder of this module.
func Command(name string, args []string) string {
	words := []string{"go", "run", "./" + name}
	for _, arg := range args {
		if strings.ContainsFunc(arg, func(r rune) bool {
			return !strings.ContainsRune("-_./,=:", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
		}) {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

// Worker is what a worker process of a measurement runs, if the arguments are those of one.
func Worker(ctx context.Context, args []string, all []systems.System, stdin io.Reader, stdout io.Writer) (is bool, err error) {
	if len(args) == 0 || args[0] != stage.WorkerRole {
		return false, nil
	}
	var child stage.Child
	if _, err := cli.Parse(stage.WorkerRole, "A worker process of a measurement.", &child, args[1:], stdout); err != nil {
		return true, err
	}
	return true, child.Run(ctx, all, stdin, stdout)
}

// Run measures, and reports.
func (f *Flags) Run(ctx context.Context, plan *Plan, stdout, stderr io.Writer) error {
	if err := f.Check(plan.Scenarios); err != nil {
		return err
	}
	logf := func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	server, err := startServer(ctx, logf)
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop() }()
	began := time.Now()
	result := &report.Result{Systems: describe(plan.Systems)}
	if result.Meta, err = meta(ctx, server.URL("postgres")); err != nil {
		return err
	}
	result.Meta.Options = map[string]string{
		"events": strconv.Itoa(f.Events), "rounds": strconv.Itoa(f.Rounds), "duration": f.Duration.String(),
	}
	maps.Copy(result.Meta.Options, plan.Options)
	result.Meta.Command = plan.Command
	err = stage.Run(ctx, stage.Config{
		Server: server, Systems: plan.Systems, Events: f.Events, Rounds: f.Rounds, Duration: f.Duration, Progress: logf,
	}, plan.Scenarios, f.Scenarios, result)
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	result.Meta.Took = time.Since(began)
	if err := errors.Join(result.Check(), result.Write(f.Out)); err != nil {
		return err
	}
	logf("the results are in %s; again, in folder bench: %s", f.Out, plan.Command)
	if f.JSON {
		return errors.Join(result.JSON(stdout), err)
	}
	return errors.Join(result.Markdown(stdout), err)
}

// Check refuses flags that are wrong, and chooses all scenarios if none is given. Run does it first.
func (f *Flags) Check(scenarios stage.Scenarios) error {
	if len(f.Scenarios) == 0 {
		f.Scenarios = scenarios.Numbers()
	}
	switch {
	case f.Events < 1000:
		return Usage("--events must be at least 1000")
	case f.Rounds < 1:
		return Usage("--rounds must be at least 1")
	case f.Duration < 100*time.Millisecond:
		return Usage("--duration must be at least 100ms")
	}
	if err := scenarios.Check(f.Scenarios); err != nil {
		return &cli.UsageError{Err: err}
	}
	return nil
}

// Usage is an error about the flags.
func Usage(text string) error { return &cli.UsageError{Err: errors.New(text)} }

// serverSettings are those of a small machine that is PostgreSQL's, and durable.
var serverSettings = map[string]string{
	"shared_buffers":     "1GB",
	"max_wal_size":       "4GB",
	"checkpoint_timeout": "15min",
	"max_connections":    "500",
	"fsync":              "on",
	"synchronous_commit": "on",
}

// startServer prefers one that counts statements, which scenario 7 asks for; the module is silent elsewhere.
func startServer(ctx context.Context, logf func(string, ...any)) (*embeddedpg.Server, error) {
	settings := map[string]string{"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track": "none"}
	maps.Copy(settings, serverSettings)
	server, err := embeddedpg.Start(ctx, embeddedpg.Config{Logf: logf, Settings: settings})
	if err == nil || ctx.Err() != nil {
		return server, err
	}
	return embeddedpg.Start(ctx, embeddedpg.Config{Logf: logf, Settings: serverSettings})
}
