package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// versionFlag prints which build of a program this is.
type versionFlag struct {
	Version kong.VersionFlag `help:"Show the version." env:"-"`
}

// version is what Go knows about the build: of an installed release its number, of a checkout the commit.
func version(name string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return name
	}
	return fmt.Sprintf("%s %s %s", name, info.Main.Version, info.GoVersion)
}
