package needs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// fakeGo stands for Go on a machine that has no curl, nor a C compiler. HAS is what it has of these, and FAILING the module whose tests
// fail.
const fakeGo = `#!/bin/sh
module=$(basename "$PWD")
has() { case " $HAS " in *" $1 "*) true ;; *) false ;; esac; }
case $1 in
build) has gcc ;;
vet) ;;
test)
	echo "$module: go $* (CGO_ENABLED=$CGO_ENABLED)"
	[ "$module" != "$FAILING" ] || exit 1
	has curl && exit
	echo "$module TestDownload needs curl: install curl" >>"$SIGNALBOX_LACKS"
	[ -z "$CI" ]
	;;
esac
`

func TestMakeTest(t *testing.T) {
	t.Parallel()
	// Go has to know that this test depends on the script, or else takes its result from its cache after a change.
	if _, err := os.Stat("../../.ci/test"); err != nil {
		t.Fatal(err)
	}
	fake := filepath.Join(t.TempDir(), "go")
	if err := os.WriteFile(fake, []byte(fakeGo), 0o700); err != nil {
		t.Fatal(err)
	}
	const (
		raced   = "needs: go test -race -timeout 20m ./... (CGO_ENABLED=)\npgtest: go test -race -timeout 20m ./... (CGO_ENABLED=)\n"
		unraced = "needs: go test -timeout 20m ./... (CGO_ENABLED=0)\npgtest: go test -timeout 20m ./... (CGO_ENABLED=0)\n"
		skipped = "\nSkipped, since this machine lacks what they need:\n"
		failed  = "\nFailed, since this machine lacks what they need and CI is set:\n"
		needs   = "  needs TestDownload needs curl: install curl\n"
		pgtest  = "  pgtest TestDownload needs curl: install curl\n"
		race    = "  the race detector needs a C compiler: apt-get install gcc libc6-dev, or xcode-select --install\n"
	)
	for name, test := range map[string]struct {
		variables []string
		want      string
		fails     bool
	}{
		"nothing is missing":        {[]string{"HAS=gcc curl"}, raced, false},
		"no curl":                   {[]string{"HAS=gcc"}, raced + skipped + needs + pgtest, false},
		"no C":                      {[]string{"HAS=curl"}, unraced + skipped + race, false},
		"neither":                   {nil, unraced + skipped + needs + pgtest + race, false},
		"no curl, and a bug":        {[]string{"HAS=gcc", "FAILING=needs"}, raced + skipped + pgtest, true},
		"a bug":                     {[]string{"HAS=gcc curl", "FAILING=pgtest"}, raced, true},
		"in CI, nothing is missing": {[]string{"CI=1", "HAS=gcc curl"}, raced, false},
		"in CI, no curl":            {[]string{"CI=1", "HAS=gcc"}, raced + failed + needs + pgtest, true},
		"in CI, no C":               {[]string{"CI=1", "HAS=curl"}, unraced + failed + race, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			cmd := exec.CommandContext(t.Context(), "sh", "../../.ci/test", "internal/needs", "internal/pgtest")
			cmd.Env = append(os.Environ(), append([]string{"GO=" + fake, "TMPDIR=" + temp, "CI=", "HAS=", "FAILING=", "CGO_ENABLED="}, test.variables...)...)
			out, err := cmd.CombinedOutput()
			if (err != nil) != test.fails || string(out) != test.want {
				t.Errorf("ends with %v, and says:\n%s", err, out)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
}
