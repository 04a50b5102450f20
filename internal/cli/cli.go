package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Command runs until it is done or ctx is cancelled, which means: finish what was begun, then return nil.
// args are the arguments after the program's name.
type Command func(ctx context.Context, args []string, stdout, stderr io.Writer) error

// ErrHelp is returned by [Parse] when help, or the version, was asked for and printed: there is nothing left to do.
var ErrHelp = errors.New("help was printed")

// A UsageError says that the command line, or the environment in its place, is wrong.
type UsageError struct {
	Err error
	See string // the command whose help would help, such as "outbox status". Defaults to the program's
}

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// An ExitError ends a command with an exit code of its own: 3 where something that was named does not exist, 4 where something
// was refused, or what the command's help says.
type ExitError struct {
	Code int
	Err  error // what to print
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// Parse fills flags, a pointer to a struct with kong's tags, from args and from the environment: --log-level is
// SIGNALBOX_LOG_LEVEL there unless its tag says otherwise. It returns a *[UsageError], or [ErrHelp] after printing the
// help to stdout. The result tells which command was chosen, for programs that have several.
func Parse(name, description string, flags any, args []string, stdout io.Writer, options ...kong.Option) (*kong.Context, error) {
	helped := false
	parser, err := kong.New(flags, append([]kong.Option{
		kong.Name(name),
		kong.Description(description),
		kong.Embed(&versionFlag{}),
		kong.Vars{"version": version(name)},
		kong.DefaultEnvars("SIGNALBOX"),
		kong.Writers(stdout, io.Discard),
		OutboxFlag,
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		// Kong exits after printing help or the version. A test must survive that, so it is only noted here.
		kong.Exit(func(int) { helped = true }),
	}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("define flags of %s: %w", name, err)
	}
	parsed, err := parser.Parse(args)
	switch {
	case helped: // before the error, which may be about what help has made superfluous
		return nil, ErrHelp
	case err != nil:
		see := name
		if at := new(kong.ParseError); errors.As(err, &at) && at.Context.Selected() != nil {
			see = at.Context.Selected().FullPath()
		}
		return nil, &UsageError{Err: err, See: see}
	}
	return parsed, nil
}

// OutboxFlag reads flags of type outbox.Outbox.
var OutboxFlag = kong.TypeMapper(reflect.TypeFor[outbox.Outbox](), kong.MapperFunc(readOutbox))

// readOutbox reads a flag that names an outbox.
func readOutbox(d *kong.DecodeContext, target reflect.Value) error {
	var name string
	if err := d.Scan.PopValueInto("name", &name); err != nil {
		return err
	}
	o, err := outbox.In(name)
	if err == nil {
		target.Set(reflect.ValueOf(o))
	}
	return err
}

// Main runs a command as the process, with [Context], and exits.
func Main(name string, run Command) {
	ctx := Context(name)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	os.Exit(report(ctx, name, err, os.Stderr))
}

// report prints what became of a command, in one line, and returns its exit code.
func report(ctx context.Context, name string, err error, stderr io.Writer) int {
	var (
		usage *UsageError
		exit  *ExitError
		stop  stopped
	)
	switch {
	case err == nil, errors.Is(err, ErrHelp):
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "%s: error: %s (see %s --help)\n", name, plain.Line(err.Error()), cmp.Or(usage.See, name))
		return 2
	case errors.Is(err, context.Canceled) && errors.As(context.Cause(ctx), &stop):
		// It could not finish: a migration, say, or a start that waited for something.
		fmt.Fprintf(stderr, "%s: %s\n", name, stop)
		return stop.code()
	case errors.As(err, &exit):
		fmt.Fprintf(stderr, "%s: %s\n", name, advised(err))
		return exit.Code
	default:
		fmt.Fprintf(stderr, "%s: %s\n", name, advised(err))
		return 1
	}
}

// advised is an error in one line, also if it lists several causes, with what to do where PostgreSQL does not say it.
func advised(err error) string {
	text := plain.Line(err.Error())
	if refused := new(pgconn.PgError); errors.As(err, &refused) {
		switch refused.Code {
		case pgerrcode.InsufficientPrivilege:
			return text + ": grant that to the role in DATABASE_URL, or use another (docs/operations.md has the privileges of each)"
		case pgerrcode.ReadOnlySQLTransaction:
			return text + ": the server is a standby, or read-only: point DATABASE_URL at the primary (with several hosts, target_session_attrs=primary finds it)"
		}
	}
	return text
}
