package worker_test

import (
	"os"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(processEnv) != "" {
		runProcess()
		return
	}
	pgtest.Main(m)
}
