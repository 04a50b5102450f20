package program

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// meta says where the run is.
func meta(ctx context.Context, url string) (report.Meta, error) {
	m := report.Meta{
		At: time.Now(), Cores: runtime.NumCPU(), CPU: cpu(), MemoryGiB: memory(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
		Revision: revision(ctx), Settings: map[string]string{},
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return m, err
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, "select current_setting('server_version')").Scan(&m.PostgreSQL); err != nil {
		return m, err
	}
	for name := range serverSettings {
		var value string
		if err := conn.QueryRow(ctx, "select current_setting($1)", name).Scan(&value); err != nil {
			return m, err
		}
		m.Settings[name] = value
	}
	return m, nil
}

// describe names the systems with the versions that were built in.
func describe(chosen []systems.System) []report.System {
	versions := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			versions[dep.Path] = dep.Version
		}
	}
	var list []report.System
	for _, s := range chosen {
		i := s.Info()
		version := versions[i.Module]
		if version == "" {
			version = "this tree"
		}
		list = append(list, report.System{Name: i.Name, Version: version, Settings: i.Settings, Offers: i.Offers})
	}
	return list
}

// revision is that of the working tree, if git can tell.
func revision(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "an unknown revision"
	}
	return strings.TrimSpace(string(out))
}

func cpu() string {
	return procField("/proc/cpuinfo", "model name", "unknown")
}

func memory() float64 {
	kib, _ := strconv.ParseFloat(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal", "0"), " kB"), 64)
	return kib / (1 << 20)
}

// procField reads the first field with a name from a file of /proc.
func procField(path, name, fallback string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return fallback
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return fmt.Sprint(fallback)
}
