package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/proof/model/difference"
	"github.com/signalbox-go/signalbox/proof/model/doorbell"
	"github.com/signalbox-go/signalbox/proof/model/explore"
	"github.com/signalbox-go/signalbox/proof/model/holds"
	"github.com/signalbox-go/signalbox/proof/model/lanes"
	"github.com/signalbox-go/signalbox/proof/model/reading"
	"github.com/signalbox-go/signalbox/proof/model/settling"
	"github.com/signalbox-go/signalbox/proof/model/topics"
)

func main() {
	if !report(os.Stdout) {
		os.Exit(1)
	}
}

func checks() []explore.Check {
	return slices.Concat(difference.Checks(), doorbell.Checks(), holds.Checks(), lanes.Checks(), reading.Checks(), settling.Checks(), topics.Checks())
}

// report runs all checks and writes what they found, as Markdown. It reports whether each found what it should.
func report(w io.Writer) bool {
	var (
		ok     = true
		traces []string
	)
	fmt.Fprintln(w, "| model | what may happen | broken | result | states | transitions | depth | time |")
	fmt.Fprintln(w, "|---|---|---|---|--:|--:|--:|--:|")
	for _, c := range checks() {
		r := c.Run()
		result := "all properties hold"
		if t := r.Counterexample; t != nil {
			result = "violated: " + t.Property
			traces = append(traces, fmt.Sprintf("### %s: %s\n\n%s", c.Model, c.Broken, t))
		}
		if !asExpected(c, r) {
			ok = false
			result = "**UNEXPECTED** " + result
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %d | %d | %d | %v |\n",
			c.Model, c.Size, c.Broken, result, r.States, r.Transitions, r.Depth, r.Took.Round(10*time.Millisecond))
	}
	fmt.Fprintln(w, "\n## Shortest counterexamples")
	for _, t := range traces {
		fmt.Fprintf(w, "\n%s", t)
	}
	return ok
}

func asExpected(c explore.Check, r explore.Result) bool {
	if r.Counterexample == nil {
		return c.Breaks == ""
	}
	return c.Breaks == r.Counterexample.Property
}
