package main

import (
	"fmt"
	"strings"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// cursor is the part of a verb's flags that chooses a page of a list. Embed it.
type cursor struct {
	After string `env:"-" placeholder:"NEXT" help:"Go on where the page before ended, as it says."`
	Limit int    `env:"-" default:"100" help:"How many to list, 1 to 1000."`
}

// options are what the flags mean to the library.
func (c cursor) options() (admin.ListOptions, error) {
	return admin.ListOptions{After: admin.Cursor(c.After), Limit: c.Limit}, checkLimit(c.Limit)
}

// checkLimit refuses a --limit that no list has.
func checkLimit(n int) error {
	if n < 1 || n > 1000 {
		return &cli.UsageError{Err: fmt.Errorf("--limit is %d, must be 1 to 1000", n)}
	}
	return nil
}

// fullPage returns a page that is as long as it may be, however many of the library's that takes: each looks at a bounded part of a
// list. It ends early where what it has is long.
func fullPage[T any](o admin.ListOptions, bytes func(T) int, list func(admin.ListOptions) (*admin.Page[T], error)) (*admin.Page[T], error) {
	page := &admin.Page[T]{Items: []T{}}
	for long, limit := 0, o.Limit; ; {
		part, err := list(o)
		if err != nil {
			return nil, err
		}
		page.Items, page.Next = append(page.Items, part.Items...), part.Next
		for _, item := range part.Items {
			long += bytes(item)
		}
		if o.After, o.Limit = part.Next, limit-len(page.Items); o.After == "" || o.Limit == 0 || long >= admin.PageBytes {
			return page, nil
		}
	}
}

// writeNext says how to go on where there are more.
func writeNext(b *strings.Builder, next admin.Cursor) {
	if next != "" {
		fmt.Fprintf(b, "\nThere are more: go on with --after %s\n", plain.Shell(string(next)))
	}
}
