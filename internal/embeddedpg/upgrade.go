package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Upgrade stops this server, and starts another on what pg_upgrade makes of its files: a new cluster, of the version in a folder of
// programs, or of the same version if bin is "". It needs the client programs beside the server's, in both folders. This one is of no use
// afterwards, and still has to be stopped; but if Upgrade fails, it can be restarted.
func (s *Server) Upgrade(ctx context.Context, bin string, settings map[string]string) (*Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tools := s.tools
	if bin != "" {
		var err error
		if tools, err = inspect(ctx, s.account, bin); err != nil {
			return nil, err
		}
	}
	if err := s.postmaster.shutdown(); err != nil {
		return nil, err
	}
	base, err := tempFolder(ctx, s.account)
	if err != nil {
		return nil, err
	}
	c := &Server{tools: tools, account: s.account, password: s.password}
	err = c.start(ctx, base, func(ctx context.Context) error {
		var options []string
		if s.tools.version < checksummedVersion && tools.version >= checksummedVersion {
			options = append(options, "--no-data-checksums") // pg_upgrade wants what the old one has
		}
		if err := c.initCluster(ctx, settings, options...); err != nil {
			return err
		}
		cmd := s.account.command(ctx, filepath.Join(tools.bin, "pg_upgrade"),
			"--old-bindir="+s.tools.bin, "--new-bindir="+tools.bin, "--old-datadir="+s.home.data(), "--new-datadir="+c.home.data(),
			"--username="+superuser, "--socketdir="+c.home.path)
		cmd.Env = append(cmd.Env, "PGPASSWORD="+s.password)
		cmd.Dir = c.home.path // where it writes
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("pg_upgrade: %w\n\t%s", err, strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", "\n\t"))
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// checksummedVersion is the first major version whose clusters have checksums unless they are told otherwise.
const checksummedVersion = 18
