package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/jackc/pgx/v5"
)

// Copy starts another server on a physical copy of this one's files, as of now: a backup that was restored. It needs
// none of PostgreSQL's client programs. This one goes on meanwhile, and the two know nothing of each other.
func (s *Server) Copy(ctx context.Context) (*Server, error) {
	return s.copy(ctx, "")
}

// Standby starts a copy that follows this server until somebody has it promoted: select pg_promote().
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	settings := settingsText(map[string]string{"primary_conninfo": s.URL("postgres")})
	return s.copy(ctx, settings, "standby.signal")
}

// copy starts a server on a copy with more settings and signal files, which are empty.
func (s *Server) copy(ctx context.Context, settings string, signals ...string) (*Server, error) {
	base, err := tempFolder(ctx, s.account)
	if err != nil {
		return nil, err
	}
	c := &Server{tools: s.tools, account: s.account, password: s.password}
	err = c.start(ctx, base, func(ctx context.Context) error {
		if err := s.backUp(ctx, c); err != nil {
			return fmt.Errorf("copy PostgreSQL's files: %w", err)
		}
		for _, name := range signals {
			if err := c.writeData(name, ""); err != nil {
				return err
			}
		}
		return c.configure(settings)
	})
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// backUp copies the data folder between PostgreSQL's words that a backup begins and ends, and then the log that makes
// it consistent.
func (s *Server) backUp(ctx context.Context, c *Server) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `select pg_backup_start('copy', true)`); err != nil {
		return err
	}
	if err := s.copyFiles(c.home, ".", func(path string) bool { return !passed.MatchString(path) }); err != nil {
		return err
	}
	var label string
	if err := conn.QueryRow(ctx, `select labelfile from pg_backup_stop(false)`).Scan(&label); err != nil {
		return err
	}
	if err := s.copyFiles(c.home, "pg_wal", func(path string) bool { return segment.MatchString(filepath.Base(path)) }); err != nil {
		return err
	}
	return c.writeData("backup_label", label)
}

// writeData adds a file to the data folder.
func (s *Server) writeData(name, text string) error {
	path := filepath.Join(s.home.data(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return s.account.own(path)
}

var (
	// What belongs to the running server, or is copied later. Of most folders only the contents: they have to exist.
	passed = regexp.MustCompile(`^(postmaster\.(pid|opts)|standby\.signal|backup_label.*|` +
		`(pg_wal|pg_replslot|pg_dynshmem|pg_notify|pg_serial|pg_snapshots|pg_stat_tmp|pg_subtrans)/.*|.*pgsql_tmp.*|.*pg_internal\.init)$`)

	// A file of the log, or the history of its timelines.
	segment = regexp.MustCompile(`^([0-9A-F]{24}|[0-9A-F]{8}\.history)$`)
)

// copyFiles copies those of a folder in the data folder that are wanted. Any of them may change or vanish meanwhile: the log
// knows better.
func (s *Server) copyFiles(to *home, folder string, wanted func(path string) bool) error {
	return filepath.WalkDir(filepath.Join(s.home.data(), folder), func(source string, entry fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		path, err := filepath.Rel(s.home.data(), source)
		if err != nil {
			return err
		}
		target := filepath.Join(to.data(), path)
		switch {
		case path == folder:
			return nil
		case !wanted(path):
			return nil
		case entry.IsDir():
			err = os.Mkdir(target, 0o700)
		default:
			err = copyOne(target, source)
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
		}
		if err != nil {
			return err
		}
		return s.account.own(target)
	})
}

func copyOne(target, source string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
