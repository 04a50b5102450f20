package main

import (
	"os"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// asCommand makes this test binary be the command: tests that kill it need a process.
const asCommand = "SIGNALBOX_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	pgtest.Main(m, removeBinary)
}
