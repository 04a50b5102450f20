package cli_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// behave, in the environment, makes the test binary a command: Main ends the process, so it takes one to see it end.
const behave = "CLI_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(behave) != "" {
		cli.Main("sample", sample)
	}
	pgtest.Main(m)
}

func sample(ctx context.Context, _ []string, stdout, _ io.Writer) error {
	switch os.Getenv(behave) {
	case "succeed":
		return nil
	case "fail":
		return errors.New("one reason\n\tand another")
	case "refuse":
		return fmt.Errorf("delete: %w", &cli.ExitError{Code: 4, Err: errors.New("it is in use")})
	case "forbidden":
		return fmt.Errorf("pause: %w", &pgconn.PgError{Severity: "ERROR", Code: "42501", Message: "permission denied for table subscriptions"})
	case "standby":
		return fmt.Errorf("pause: %w", &pgconn.PgError{Severity: "ERROR", Code: "25006", Message: "cannot execute UPDATE in a read-only transaction"})
	case "misuse":
		return &cli.UsageError{Err: errors.New("unknown flag --nope")}
	}
	heard := make(chan os.Signal, 2)
	signal.Notify(heard, syscall.SIGINT, syscall.SIGTERM)
	fmt.Fprintln(stdout, "started")
	<-ctx.Done()
	if os.Getenv(behave) == "finish" {
		<-heard
		<-heard
		fmt.Fprintln(stdout, "has heard both")
		_, err := bufio.NewReader(os.Stdin).ReadString('\n')
		return err
	}
	fmt.Fprintln(stdout, "draining")
	switch os.Getenv(behave) {
	case "drain":
		return nil
	case "drain slowly":
		time.Sleep(100 * time.Millisecond) // not a wait: it is the work that has to be finished
		fmt.Fprintln(stdout, "drained")
		return nil
	case "give up":
		return fmt.Errorf("migrate: %w", ctx.Err())
	default: // hang
		select {}
	}
}
