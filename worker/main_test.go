package worker_test

import (
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

func TestMain(m *testing.M) {
	if processRole.Given() {
		runProcess()
		return
	}
	pgtest.Main(m)
}
