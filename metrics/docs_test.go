package metrics_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/metrics"
)

// TestDocs holds what the docs say about metrics against those of a worker that has handled something.
func TestDocs(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	m, registry := registered(t, metrics.Config{Pool: db.Pool})
	m.Published("a.x", 1)
	want := load(t, db.Pool, "s")
	release := make(chan struct{})
	start(t, db.Pool, m, "s", release)
	await(t, registry, map[string]float64{`signalbox_parked_total{subscription="s"}`: 1})
	close(release)
	await(t, registry, want)
	families := gather(t, registry)

	t.Run("table", func(t *testing.T) { checkTable(t, families) })
	t.Run("dashboard", func(t *testing.T) { checkDashboard(t, families) })
	t.Run("alerts", func(t *testing.T) { checkAlerts(t, families) })
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile("../docs/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// A row of docs/metrics.md: name, type, labels.
var tableRow = regexp.MustCompile("(?m)^\\| `(signalbox_\\w+)` \\| (\\w+) \\| ([\\w, ]*?) ?\\| \\S")

// checkTable wants each metric in the docs as it is, and no other.
func checkTable(t *testing.T, families map[string]*dto.MetricFamily) {
	described := map[string]bool{}
	for _, row := range tableRow.FindAllStringSubmatch(string(read(t, "metrics.md")), -1) {
		name, kind, labels := row[1], row[2], row[3]
		if described[name] {
			t.Errorf("%s is described twice", name)
		}
		described[name] = true
		family := families[name]
		if family == nil {
			t.Errorf("%s is described and does not exist", name)
			continue
		}
		if is := strings.ToLower(family.GetType().String()); kind != is {
			t.Errorf("%s is described as a %s, and is a %s", name, kind, is)
		}
		if is := labelsOf(family); labels != strings.Join(is, ", ") {
			t.Errorf("%s is described with the labels %q, and has %q", name, labels, is)
		}
	}
	for name := range families {
		if !described[name] {
			t.Errorf("%s is not described", name)
		}
	}
}

// labelsOf returns the names of a family's labels, subscription first, without outbox, which each has.
func labelsOf(family *dto.MetricFamily) []string {
	var names []string
	for _, l := range family.GetMetric()[0].GetLabel() {
		if l.GetName() == "outbox" {
			continue
		}
		names = append(names, l.GetName())
	}
	slices.SortFunc(names, func(a, b string) int {
		if (a == "subscription") != (b == "subscription") {
			if a == "subscription" {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return names
}

// A metric in an expression, and the label matchers behind it.
var (
	metricName = regexp.MustCompile(`\b(signalbox_\w+)(?:\{([^}]*)\})?`)
	matcher    = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	suffix     = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// checkExpression wants all metrics of an expression to exist, with the labels that it selects by.
func checkExpression(t *testing.T, where, expr string, families map[string]*dto.MetricFamily) {
	t.Helper()
	found := metricName.FindAllStringSubmatch(expr, -1)
	if len(found) == 0 {
		t.Errorf("%s: %q has no metric of Signalbox", where, expr)
	}
	if strings.Count(expr, "(") != strings.Count(expr, ")") {
		t.Errorf("%s: %q has an open parenthesis", where, expr)
	}
	for _, metric := range found {
		family := families[metric[1]]
		if base := suffix.ReplaceAllString(metric[1], ""); family == nil && families[base].GetType() == dto.MetricType_HISTOGRAM {
			family = families[base]
		}
		if family == nil {
			t.Errorf("%s: there is no %s", where, metric[1])
			continue
		}
		for _, label := range matcher.FindAllStringSubmatch(metric[2], -1) {
			if label[1] != "outbox" && !slices.Contains(labelsOf(family), label[1]) {
				t.Errorf("%s: %s has no label %s", where, metric[1], label[1])
			}
		}
	}
}

func checkDashboard(t *testing.T, families map[string]*dto.MetricFamily) {
	type panel struct {
		ID      int
		Type    string
		Title   string
		Targets []struct{ Expr string }
	}
	var dashboard struct {
		Title      string
		UID        string
		Panels     []panel
		Templating struct {
			List []struct {
				Name       string
				Type       string
				Definition string
			}
		}
	}
	if err := json.Unmarshal(read(t, "grafana/signalbox.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.UID == "" || dashboard.Title == "" || len(dashboard.Panels) == 0 {
		t.Error("the dashboard lacks its id, its title or its panels")
	}
	ids, used := map[int]bool{}, ""
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("panel id %d is there twice", p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			checkExpression(t, "panel "+p.Title, target.Expr, families)
			used += target.Expr + "\n"
		}
	}
	for _, v := range dashboard.Templating.List {
		if v.Type == "query" {
			checkExpression(t, "variable "+v.Name, v.Definition, families)
		}
	}
	for name := range families {
		if !strings.Contains(used, name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

func checkAlerts(t *testing.T, families map[string]*dto.MetricFamily) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert       string
				Expr        string
				For         string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(read(t, "prometheus/alerts.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || names[r.Alert] {
				t.Errorf("rule %q has no name of its own", r.Alert)
			}
			names[r.Alert] = true
			if s := r.Labels["severity"]; s != "warning" && s != "critical" {
				t.Errorf("%s has the severity %q", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s does not say what is wrong, or what to do", r.Alert)
			}
			checkExpression(t, r.Alert, r.Expr, families)
		}
	}
	if len(names) == 0 {
		t.Error("there are no rules")
	}
}
