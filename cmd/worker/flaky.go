package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/signalbox-go/signalbox/producer"
	"github.com/signalbox-go/signalbox/worker"
)

const (
	slowFor    = 2 * time.Second // longer than a window waits
	killedCode = 137             // what a shell reports of a process that kill -9 has ended
)

// flaky returns the handler "flaky", which does what the name of a signal says, and logs those that succeed. The
// description of the command lists the names.
func flaky(logger *slog.Logger) func(context.Context, *worker.Event[json.RawMessage]) error {
	log := logEvent(logger)
	return func(ctx context.Context, e *worker.Event[json.RawMessage]) error {
		var signal producer.Signal
		_ = json.Unmarshal(e.Payload, &signal) // what is no signal has no name, and succeeds
		switch signal.Name {
		case "fail":
			return errOnDemand
		case "fail-twice":
			if e.Attempt <= 2 {
				return errOnDemand
			}
		case "slow":
			select {
			case <-time.After(slowFor):
			case <-ctx.Done():
				return ctx.Err()
			}
		case "hang":
			<-ctx.Done()
			return ctx.Err()
		case "panic":
			panic(errOnDemand)
		case "kill":
			os.Exit(killedCode) // nothing is finished, settled or given back
		case "dead":
			return worker.DeadLetter(errOnDemand)
		case "skip":
			return worker.Skip(errOnDemand.Error())
		}
		return log(ctx, e)
	}
}

var errOnDemand = errors.New("the signal's name asks for it")
