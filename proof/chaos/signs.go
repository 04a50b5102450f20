package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// A sign tells the handlers of all worker processes what goes wrong at the moment, by a file that is there.
type sign string

const (
	endpointDead sign = "endpoint-dead"
	handlersFail sign = "handlers-fail"
)

var errDown = errors.New("what the handler calls is down")

// up reports whether a sign is up in a folder.
func (s sign) up(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, string(s)))
	return !errors.Is(err, fs.ErrNotExist)
}

// signs are raised by faults, each of which may come several times at once. Safe for concurrent use.
type signs struct {
	folder string

	mu     sync.Mutex
	raised map[sign]int
}

func (s *signs) raise(one sign) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raised[one]++; s.raised[one] > 1 {
		return nil
	}
	if err := os.WriteFile(filepath.Join(s.folder, string(one)), nil, 0o600); err != nil {
		return fmt.Errorf("raise a sign: %w", err)
	}
	return nil
}

func (s *signs) lower(one sign) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raised[one]--; s.raised[one] > 0 {
		return nil
	}
	if err := os.Remove(filepath.Join(s.folder, string(one))); err != nil {
		return fmt.Errorf("lower a sign: %w", err)
	}
	return nil
}
