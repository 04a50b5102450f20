package embeddedpg

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// superuser is the role that everybody connects as.
const superuser = "postgres"

// defaultSettings are a small server's. Durability stays at PostgreSQL's own defaults: demos measure the real thing.
var defaultSettings = map[string]string{
	"max_connections": "200",
	"shared_buffers":  "128MB",
}

// fixedSettings are what the rest of the package relies on: reachable through loopback alone. No unix socket: its path
// would have to be shorter than some systems' temporary folders.
var fixedSettings = map[string]string{
	"listen_addresses":        "127.0.0.1",
	"unix_socket_directories": "",
}

// initCluster runs initdb, with more options, and writes the settings.
func (s *Server) initCluster(ctx context.Context, settings map[string]string, options ...string) error {
	// A password even on loopback: other users of the machine are there too.
	if err := os.WriteFile(s.home.passwordFile(), []byte(s.password), 0o600); err != nil {
		return fmt.Errorf("create a cluster: %w", err)
	}
	defer os.Remove(s.home.passwordFile())
	if err := s.account.own(s.home.passwordFile()); err != nil {
		return fmt.Errorf("create a cluster: %w", err)
	}

	var out bytes.Buffer
	cmd := s.account.command(ctx, filepath.Join(s.tools.bin, "initdb"), append(options,
		"--pgdata="+s.home.data(), "--username="+superuser, "--pwfile="+s.home.passwordFile(), "--auth=scram-sha-256",
		"--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions")...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start initdb: %w", err)
	}
	watchErr := s.watchdog.watch(cmd.Process.Pid)
	err := cmd.Wait()
	if err == nil {
		err = watchErr
	}
	if err == nil {
		err = s.watchdog.watch(0)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("initdb: %w\n\t%s", err, strings.ReplaceAll(strings.TrimSpace(out.String()), "\n", "\n\t"))
	}

	return s.configure(settingsText(defaultSettings) + settingsText(settings) + settingsText(fixedSettings))
}

// configure adds lines to postgresql.conf.
func (s *Server) configure(lines string) error {
	f, err := os.OpenFile(filepath.Join(s.home.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(lines); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	return f.Close()
}

// settingsText is a piece of postgresql.conf. The last line for a setting wins there.
func settingsText(settings map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(settings[name]))
	}
	return b.String()
}
