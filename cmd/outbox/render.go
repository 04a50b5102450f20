package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// table aligns rows under a header. Empty cells get a dash.
func table[T any](b *strings.Builder, header string, rows []T, cells func(T) []string) {
	w := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, header)
	for _, row := range rows {
		texts := cells(row)
		for i := range texts {
			if texts[i] == "" {
				texts[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(texts, "\t"))
	}
	_ = w.Flush() // a strings.Builder takes everything
}

// A field is a line of what is shown of one thing.
type field struct{ name, value string }

// fields aligns what is known of one thing, and leaves out what is empty.
func fields(b *strings.Builder, list ...field) {
	w := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	for _, f := range list {
		if f.value != "" {
			fmt.Fprintf(w, "%s\t%s\n", f.name, f.value)
		}
	}
	_ = w.Flush()
}

// counts lists counts by name.
func counts[K ~string, N int | int64](byName map[K]N) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		list = append(list, fmt.Sprintf("%s: %d", plain.Quote(string(name)), byName[name]))
	}
	return strings.Join(list, ", ")
}

// lanesText lists how many lanes each worker owns, those without an owner first. Workers of one name are told apart by their ids.
func lanesText(workers []admin.WorkerStatus, lanes map[int64]int) string {
	names, of := map[int64]string{}, map[string]int{}
	for _, w := range workers {
		names[w.ID] = w.Name
		of[w.Name]++
	}
	var list []string
	if n := lanes[0]; n > 0 {
		list = append(list, fmt.Sprintf("free: %d", n))
	}
	byLabel := map[string]int{}
	for id, n := range lanes {
		label := plain.Quote(names[id])
		switch {
		case id == 0:
			continue
		case of[names[id]] != 1: // also one that joined between the two looks
			label = strings.TrimSpace(fmt.Sprintf("%s #%d", plain.Quote(names[id]), id))
		}
		byLabel[label] = n
	}
	for _, label := range slices.Sorted(maps.Keys(byLabel)) {
		list = append(list, fmt.Sprintf("%s: %d", label, byLabel[label]))
	}
	return strings.Join(list, ", ")
}

// age rounds to what a person wants to know.
func age(d time.Duration) string {
	switch {
	case d < 0: // the row was written between the two looks
		return "0s"
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// clock is a time as --since and --until take it.
func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// excerpt is the beginning of a text, in one line.
func excerpt(text string, most int) string { return plain.Clip(plain.Line(text), most) }

// indented is JSON for people.
func indented(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return plain.Block(string(raw))
	}
	return plain.Block(string(plain.JSON(b.Bytes())))
}

// number has separators, for what may be in the millions.
func number(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// plural counts things: "1 event", "2 events".
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}
