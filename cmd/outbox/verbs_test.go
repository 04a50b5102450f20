package main

import (
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// verbs are all that people can call, such as "events list".
func verbs(t *testing.T) map[string]*kong.Node {
	t.Helper()
	var flags flags
	parser, err := kong.New(&flags, kong.Name("outbox"), cli.OutboxFlag)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*kong.Node{}
	for _, leaf := range parser.Model.Leaves(true) {
		all[strings.TrimPrefix(leaf.FullPath(), "outbox ")] = leaf
	}
	if len(all) < 20 {
		t.Fatalf("only %d verbs are there", len(all))
	}
	return all
}

// Each verb is in docs/cli.md, under its own heading with an example, and each of its flags is mentioned there.
func TestDocsHaveEachVerb(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(raw), "\n## ")[1:] {
		heading, text, _ := strings.Cut(section, "\n")
		sections[heading] = text
	}
	for verb, node := range verbs(t) {
		section, ok := sections["outbox "+verb]
		if !ok {
			t.Errorf("docs/cli.md has no section %q", "outbox "+verb)
			continue
		}
		if !strings.Contains(section, "outbox "+verb) {
			t.Errorf("the section about %q has no example", verb)
		}
		for _, flag := range node.Flags {
			if !flag.Hidden && flag.Name != "help" && flag.Name != "json" && flag.Name != "database-url" && flag.Name != "outbox" && !strings.Contains(section, "`--"+flag.Name) {
				t.Errorf("the section about %q says nothing of --%s", verb, flag.Name)
			}
		}
	}
	for heading := range sections {
		if verb, ok := strings.CutPrefix(heading, "outbox "); ok && verbs(t)[verb] == nil {
			t.Errorf("docs/cli.md has a section %q, and there is no such verb", heading)
		}
	}
}

// Each verb explains itself with an example, and takes --json if it has results.
func TestHelpOfEachVerb(t *testing.T) {
	t.Parallel()
	for verb, node := range verbs(t) {
		if !strings.Contains(node.Detail, "\toutbox "+verb) && !strings.Contains(node.Detail, "(outbox "+verb) {
			t.Errorf("the help of %q has no example:\n%s", verb, node.Detail)
		}
		json := false
		for _, flag := range node.Flags {
			json = json || flag.Name == "json"
		}
		if !json && verb != "completion" && verb != "ui" {
			t.Errorf("%q does not take --json", verb)
		}
	}
}

// What is wrong with the database is said alike by each verb that needs one.
func TestVerbsRefuse(t *testing.T) {
	t.Parallel()
	empty, older := pgtest.NewEmpty(t), pgtest.New(t)
	if _, err := older.Pool.Exec(t.Context(), `update public.signalbox_outbox_version set version = 1`); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"status"},
		{"status", "--watch", "--json"},
		{"events", "list"},
		{"events", "show", "1"},
		{"events", "tail"},
		{"subscriptions", "list"},
		{"subscriptions", "show", "s"},
		{"subscriptions", "create", "s", "--topics", ">"},
		{"subscriptions", "pause", "s"},
		{"subscriptions", "resume", "s"},
		{"subscriptions", "probe", "s"},
		{"keys", "list", "-s", "s"},
		{"subscriptions", "delete", "s", "--yes"},
		{"deliveries", "list", "-s", "s"},
		{"deliveries", "groups", "-s", "s"},
		{"deliveries", "show", "1", "-s", "s"},
		{"deliveries", "retry", "-s", "s", "--yes"},
		{"deliveries", "skip", "-s", "s", "--reason", "r", "--yes"},
		{"deliveries", "discard", "-s", "s", "--yes"},
		{"replay", "s", "--from", "1", "--yes"},
		{"replay", "s", "--key", "k", "--yes"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			refuse(t, "postgres://127.0.0.1:1/d", 1, "no PostgreSQL answers at 127.0.0.1:1", args...)
			refuse(t, "", 1, "DATABASE_URL is not set", args...)
			refuse(t, empty.URL, 1, `run "outbox migrate"`, args...)
			refuse(t, older.URL, 1, `run "outbox migrate"`, args...)
			refuse(t, older.URL, 2, "unknown flag --nope", append(args, "--nope")...)
		})
	}
}

// Of the verbs that are not about subscriptions, events and deliveries.
func TestOtherVerbsInJSON(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	var done migrated
	decode(t, db, &done, "migrate")
	if len(done.Sets) != 2 || !done.Sets[0].Upgraded || done.Sets[0].Set != "outbox" || done.Sets[0].To == 0 || done.Adopted {
		t.Errorf("migrate: %+v", done)
	}
	done = migrated{}
	decode(t, db, &done, "migrate", "--set", "outbox")
	if len(done.Sets) != 1 || done.Sets[0].Upgraded {
		t.Errorf("migrate again: %+v", done)
	}
	refuse(t, "", 1, "connection refused", "health", "http://127.0.0.1:1/readyz", "--json")
}
