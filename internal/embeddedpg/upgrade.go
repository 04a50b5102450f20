package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Upgrade stops this server, and starts another on what pg_upgrade makes of its files: a new cluster of the same version, as it
// would be one of a newer. It needs the client programs beside the server's. This one is of no use afterwards, and still has to be
// stopped.
func (s *Server) Upgrade(ctx context.Context, settings map[string]string) (*Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.postmaster.shutdown(); err != nil {
		return nil, err
	}
	base, err := tempFolder(ctx, s.account)
	if err != nil {
		return nil, err
	}
	c := &Server{tools: s.tools, account: s.account, password: s.password}
	err = c.start(ctx, base, func(ctx context.Context) error {
		if err := c.initCluster(ctx, settings); err != nil {
			return err
		}
		cmd := s.account.command(ctx, filepath.Join(s.tools.bin, "pg_upgrade"),
			"--old-bindir="+s.tools.bin, "--new-bindir="+s.tools.bin, "--old-datadir="+s.home.data(), "--new-datadir="+c.home.data(),
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
