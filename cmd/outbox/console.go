package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
)

// A console is where a verb reads an answer, and writes what it found.
type console struct {
	in  *os.File
	out io.Writer // results
	err io.Writer // questions, progress and faults

	outbox naming.Name // that the verb is about: what is advised has its flag
}

// asJSON is the part of a verb's flags about its output. Embed it.
type asJSON struct {
	JSON bool `name:"json" help:"Print JSON: one document, or a line for each thing where they keep coming."`
}

// print writes one JSON document as a line.
func (c *console) print(document any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // patterns have a >
	if err := encoder.Encode(document); err != nil {
		return err
	}
	_, err := c.out.Write(plain.JSON(b.Bytes()))
	return err
}

// write writes text for people.
func (c *console) write(text string) error {
	_, err := io.WriteString(c.out, text)
	return err
}

// confirmation is the part of a verb's flags about being sure. Embed it. It has no environment variable: one that stayed
// set would say yes for ever.
type confirmation struct {
	Yes bool `short:"y" env:"-" help:"Do it without asking."`
}

// errUnconfirmed says that nothing was done because nobody said that it should be.
var errUnconfirmed = errors.New("nothing was changed")

// confirm asks a person, where there is one, and wants --yes otherwise.
func (c *console) confirm(ctx context.Context, sure confirmation, question string) error {
	if sure.Yes {
		return nil
	}
	if !cli.IsTerminal(c.in) {
		return fmt.Errorf("%s: %w: add --yes to do it (there is no terminal to ask on)", question, errUnconfirmed)
	}
	fmt.Fprintf(c.err, "%s? [y/N] ", question)
	answers := make(chan string, 1)
	go func() { // reading does not end with ctx: then the process does
		answer, err := bufio.NewReader(c.in).ReadString('\n')
		if err != nil { // Ctrl-D, which ends no line
			fmt.Fprintln(c.err)
		}
		answers <- answer
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(c.err)
		return ctx.Err()
	case answer := <-answers:
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "y", "yes":
			return nil
		}
		return fmt.Errorf("%w: the answer was not yes", errUnconfirmed)
	}
}

// A database is one that has an outbox, which is what statements over it are about.
type database struct {
	outbox.Database
	pool *pgxpool.Pool
}

// Close closes its connections.
func (db *database) Close() { db.pool.Close() }

// open connects to a database whose schema is this program's.
func open(ctx context.Context, chosen cli.Database) (*database, error) {
	pool, err := cli.Connect(ctx, chosen.DatabaseURL)
	if err != nil {
		return nil, err
	}
	// Else a missing table would have to tell that the schema is.
	if err := migrations.For(chosen.Outbox).Check(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	return &database{chosen.Outbox.DB(pool), pool}, nil
}
