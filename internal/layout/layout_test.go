// Package layout has no code. Its test keeps the packages of the project in layers: imports run one way.
package layout

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/signalbox-go/signalbox/"

// layers lists which packages of the project each package may import. Those that are not listed wire others together: commands, demos,
// proofs and what only tests use.
var layers = map[string][]string{
	"internal/storable": {},
	"internal/topic":    {"internal/storable"},
	"internal/position": {},
	"internal/guard":    {},
	"internal/naming":   {},
	"internal/uid":      {},
	"outbox":            {"internal/guard", "internal/naming", "internal/position", "internal/storable", "internal/topic", "internal/uid"},
	"internal/engine":   {"internal/guard", "internal/naming", "internal/position", "internal/storable", "internal/topic", "internal/uid", "outbox"},
	"outbox/admin":      {"internal/engine", "internal/naming", "internal/position", "internal/storable", "internal/topic", "internal/uid", "outbox"},
	"migrations":        {"internal/naming", "outbox"},
	"migrations/apply":  {"migrations"},
	"internal/settings": {},
	"worker":            {"internal/engine", "internal/guard", "internal/naming", "internal/settings", "internal/topic", "migrations", "outbox"},
	"relay":             {"internal/topic", "outbox", "worker"},
	"otel":              {"metrics", "outbox", "worker"},
	"metrics":           {"internal/engine", "internal/guard", "outbox", "outbox/admin", "worker"},
	"dashboard":         {"internal/engine", "internal/guard", "internal/humantime", "internal/naming", "outbox", "outbox/admin"},
	"relay/webhook":     {"internal/plain", "relay", "worker"},
	"relay/kafka":       {"relay", "relay/internal/query", "worker"},
	"relay/nats":        {"relay", "relay/internal/inflight", "relay/internal/query", "worker"},
	"relay/rabbitmq":    {"relay", "relay/internal/inflight", "relay/internal/query", "worker"},
	"producer":          {"internal/engine", "internal/guard", "migrations", "outbox"},
}

// onlyPgx are packages that link pgx and conc, and nothing of what migrates, serves metrics or parses flags.
var onlyPgx = []string{"outbox", "outbox/admin", "worker"}

func TestImportsRunOneWay(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, line := range list(t, "{{.ImportPath}} {{join .Imports \" \"}}", "./...") {
		fields := strings.Fields(line)
		name, own := strings.CutPrefix(fields[0], module)
		allowed, layered := layers[name]
		if !own || !layered {
			continue
		}
		seen[name] = true
		for _, imported := range fields[1:] {
			if other, own := strings.CutPrefix(imported, module); own && !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s, and may import only %v", name, other, allowed)
			}
		}
	}
	for name := range layers {
		if !seen[name] && name != "internal/guard" {
			t.Errorf("there is no package %s", name)
		}
	}
}

func TestLinkedModules(t *testing.T) {
	t.Parallel()
	const allowed = "github.com/jackc/pgx github.com/jackc/pgerrcode github.com/jackc/pgpassfile github.com/jackc/pgservicefile github.com/jackc/puddle github.com/sourcegraph/conc golang.org/x/sync golang.org/x/text golang.org/x/time"
	for _, name := range onlyPgx {
		for _, path := range list(t, "{{.ImportPath}}", "-deps", "./"+name) {
			host, _, _ := strings.Cut(path, "/")
			if !strings.Contains(host, ".") || strings.HasPrefix(path, module) {
				continue
			}
			if !slices.ContainsFunc(strings.Fields(allowed), func(module string) bool { return path == module || strings.HasPrefix(path, module+"/") }) {
				t.Errorf("%s links %s", name, path)
			}
		}
	}
}

// clients are the modules that only one package may link, such as a sink of the relay, or only the relay: nobody else pays for them.
var clients = map[string]string{
	"github.com/cloudevents/":       "relay",
	"github.com/nats-io/":           "relay/nats",
	"github.com/rabbitmq/":          "relay/rabbitmq",
	"github.com/standard-webhooks/": "relay/webhook",
	"github.com/twmb/":              "relay/kafka",
	"go.opentelemetry.io/":          "otel",
}

func TestClientsAreLinkedByTheirSinks(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"outbox", "outbox/admin", "worker", "metrics", "otel", "dashboard", "producer", "relay", "relay/kafka", "relay/nats", "relay/rabbitmq", "relay/webhook"} {
		for _, path := range list(t, "{{.ImportPath}}", "-deps", "./"+name) {
			for client, owner := range clients {
				if strings.HasPrefix(path, client) && name != owner && !strings.HasPrefix(name, owner+"/") {
					t.Errorf("%s links %s, which is for %s", name, path, owner)
				}
			}
		}
	}
}

// list runs go list in the root of the module, and returns its lines.
func list(t *testing.T, format string, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-f", format}, args...)...) //nolint:gosec // our own arguments
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
